/* Copyright (c) 2026, the lunshift.migration authors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into the User-Mode Linux kernel, where it mends two things:
 *
 * ptrace: UML keeps a process's floating point state in a buffer of fixed size (2696 bytes
 * in 6.1) and sets it with PTRACE_SETREGSET. The machine's kernel refuses every buffer that
 * is shorter than the CPU's whole XSAVE area, which AMX makes larger (11008 bytes); UML then
 * panics at its first process. The missing end is filled with zeros here: the state
 * components there are marked as unused in the XSAVE header, which UML's part contains.
 *
 * execvp: to reboot, UML executes itself. It leaves its files open, among them the network
 * interface, which the new kernel then cannot open.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LARGEST_XSAVE_AREA 65536
#define FIRST_OWN_DESCRIPTOR 3

typedef long (*ptrace_function)(enum __ptrace_request, ...);
typedef int (*execvp_function)(const char *, char *const[]);

long ptrace(enum __ptrace_request request, ...)
{
	/* UML traces from one thread only: no lock is needed. */
	static ptrace_function real_ptrace;
	static char area[LARGEST_XSAVE_AREA] __attribute__((aligned(64)));
	static size_t area_length;

	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (!real_ptrace)
		real_ptrace = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
		return real_ptrace(request, pid, address, data);

	if (!area_length) {
		struct iovec whole = { area, sizeof(area) };
		long failed = real_ptrace(PTRACE_GETREGSET, pid, address, &whole);
		if (failed)
			return failed;
		area_length = whole.iov_len;
		memset(area, 0, sizeof(area));
	}
	const struct iovec *given = data;
	if (given->iov_len >= area_length)
		return real_ptrace(request, pid, address, data);

	/* UML's buffer always has the same length, so what follows it here stays zero. */
	memcpy(area, given->iov_base, given->iov_len);
	struct iovec padded = { area, area_length };
	return real_ptrace(request, pid, address, &padded);
}

int execvp(const char *file, char *const argv[])
{
	execvp_function real_execvp = (execvp_function)dlsym(RTLD_NEXT, "execvp");

	if (!strcmp(file, program_invocation_name))
		close_range(FIRST_OWN_DESCRIPTOR, ~0U, 0);
	return real_execvp(file, argv);
}
