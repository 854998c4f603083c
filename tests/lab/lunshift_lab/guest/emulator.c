/* Copyright (c) 2026, the lunshift.migration authors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The lab's <emulator>: QEMU with a little more guest memory than libvirt asked for.
 *
 * Why: QEMU 7.2 without KVM loses track of written pages during a live migration when
 * the guest's memory is a multiple of 256 KiB, and then the guest's memory is corrupt on
 * the destination. libvirt rounds memory to whole MiB, so its XML cannot avoid that.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef QEMU
#define QEMU "/usr/bin/qemu-system-x86_64"
#endif
#define EXTRA_BYTES 65536ULL
#define SIZE_KEY "\"size\":"

/* -object {"qom-type":"memory-backend-ram",...,"size":BYTES} */
static char *grown_backend(const char *object)
{
	char *number = strstr(object, SIZE_KEY), *end, *grown;
	unsigned long long bytes;

	if (!number)
		return NULL;
	number += strlen(SIZE_KEY);
	bytes = strtoull(number, &end, 10);
	if (asprintf(&grown, "%.*s%llu%s", (int)(number - object), object, bytes + EXTRA_BYTES, end) < 0)
		return NULL;
	return grown;
}

/* -m 128 (MiB) or -m size=131072k */
static char *grown_memory(const char *memory)
{
	const char *number = strncmp(memory, "size=", 5) ? memory : memory + 5;
	unsigned long long kib;
	char *end, *grown;

	kib = strtoull(number, &end, 10);
	switch (tolower((unsigned char)*end)) {
	case 'k': end++; break;
	case 'g': end++; kib <<= 20; break;
	case 'm': end++; /* fall through */
	default: kib <<= 10;
	}
	if (asprintf(&grown, "size=%lluk%s", kib + EXTRA_BYTES / 1024, end) < 0)
		return NULL;
	return grown;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *grown = NULL;

		if (strstr(argv[i], "\"qom-type\":\"memory-backend-"))
			grown = grown_backend(argv[i]);
		else if (!strcmp(argv[i - 1], "-m"))
			grown = grown_memory(argv[i]);
		if (grown)
			argv[i] = grown;
	}
	argv[0] = QEMU;
	execv(QEMU, argv);
	perror(QEMU);
	return 127;
}
