/* Copyright (c) 2026, the lunshift.migration authors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The only program of the lab's guest, run as its first process.
 *
 * Writes numbered, checksummed blocks to every disk, past all caches, and says each number on
 * the console only after every disk has acknowledged it. Reads them back, and keeps stamping
 * and checking pages of its own memory. What it says:
 *   START seq=N disks=N        RUN NUMBER MILLISECONDS (an acknowledged number)
 *   CORRUPT ...   WERR ...     RERR ...    MEM checks=N bad=N (of the pages so far)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096
#define MAX_SLOTS 16384
#define MAX_DISKS 26
#define SCAN_BLOCKS 64
#define SERIAL_BYTES 24
#define SHOWN_SERIAL_BYTES 20 /* of virtio-blk; of any other disk no more, so that all are alike */
#define SCSI_WAIT_MS 20000
#define ROUND_PAUSE_MS 20
#define MAGIC "LSLBLK1"

struct block {
	char magic[8];
	uint64_t run;
	uint64_t seq;
	uint64_t slot;
	char serial[SERIAL_BYTES];
	uint32_t crc; /* of the block with this field zero */
	unsigned char filler[BLOCK_BYTES - 4 * 8 - SERIAL_BYTES - 4];
};

struct disk {
	char name[8];
	char serial[SERIAL_BYTES];
	uint64_t slots;
	int fd;
};

static uint32_t crc_table[256];
static uint64_t run_id;
static uint64_t corruptions;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t value = i;

		for (int bit = 0; bit < 8; bit++)
			value = value & 1 ? value >> 1 ^ 0xEDB88320 : value >> 1;
		crc_table[i] = value;
	}
}

static uint32_t crc_of(const struct block *block)
{
	const unsigned char *bytes = (const unsigned char *)block;
	uint32_t value = ~0u;

	for (size_t i = 0; i < BLOCK_BYTES; i++)
		value = crc_table[(value ^ bytes[i]) & 255] ^ value >> 8;
	return ~value;
}

static void fill(struct block *block, const struct disk *disk, uint64_t seq)
{
	memset(block->filler, seq & 255, sizeof(block->filler));
	memcpy(block->magic, MAGIC, sizeof(block->magic));
	memcpy(block->serial, disk->serial, SERIAL_BYTES);
	block->run = run_id;
	block->seq = seq;
	block->slot = seq % disk->slots;
	block->crc = 0;
	block->crc = crc_of(block);
}

static const char *wrong_with(struct block *block, const struct disk *disk, uint64_t seq)
{
	uint32_t crc = block->crc;

	if (memcmp(block->magic, MAGIC, sizeof(block->magic)))
		return "magic";
	block->crc = 0;
	if (crc_of(block) != crc)
		return "checksum";
	if (block->run != run_id)
		return "run";
	if (memcmp(block->serial, disk->serial, SERIAL_BYTES))
		return "serial";
	return block->seq == seq ? NULL : "number";
}

/* A wrong volume makes every read wrong: the first lines tell the story, the rest would drown the console. */
static void say_corrupt(const char *where, const char *wrong, uint64_t number)
{
	if (++corruptions <= 20 || corruptions % 100 == 0)
		printf("CORRUPT %s wrong=%s number=%" PRIu64 " count=%" PRIu64 "\n", where, wrong, number, corruptions);
}

static void read_back(const struct disk *disk, struct block *block, uint64_t seq)
{
	ssize_t got = pread(disk->fd, block, BLOCK_BYTES, seq % disk->slots * BLOCK_BYTES);
	const char *why;

	if (got != BLOCK_BYTES)
		printf("RERR %s seq=%" PRIu64 " got=%zd errno=%d\n", disk->name, seq, got, errno);
	else if ((why = wrong_with(block, disk, seq)))
		say_corrupt(disk->name, why, seq);
}

static int write_block(const struct disk *disk, struct block *block, uint64_t seq)
{
	ssize_t put;

	fill(block, disk, seq);
	put = pwrite(disk->fd, block, BLOCK_BYTES, block->slot * BLOCK_BYTES);
	if (put == BLOCK_BYTES)
		return 1;
	printf("WERR %s seq=%" PRIu64 " put=%zd errno=%d\n", disk->name, seq, put, errno);
	return 0;
}

/* A random one of the numbers that are still on the disk. */
static uint64_t older(const struct disk *disk, uint64_t first, uint64_t seq)
{
	uint64_t oldest = seq - first < disk->slots ? first : seq - disk->slots + 1;

	return oldest + (uint64_t)random() % (seq - oldest + 1);
}

/* The highest number of this run on the disk; 0 when there is none. */
static uint64_t last_on(const struct disk *disk, struct block *blocks)
{
	uint64_t last = 0;

	for (uint64_t slot = 0; slot < disk->slots; slot += SCAN_BLOCKS) {
		ssize_t got = pread(disk->fd, blocks, SCAN_BLOCKS * BLOCK_BYTES, slot * BLOCK_BYTES);

		for (ssize_t i = 0; i < got / BLOCK_BYTES; i++)
			if (!memcmp(blocks[i].magic, MAGIC, sizeof(blocks[i].magic)) && blocks[i].run == run_id && blocks[i].seq > last)
				last = blocks[i].seq;
	}
	return last;
}

/* virtio-blk tells the serial as text; of a SCSI disk it stands behind the header of its page 0x80. */
static int read_serial(struct disk *disk)
{
	char path[64], text[64] = "";
	int fd, skip = disk->name[0] == 's' ? 4 : 0;

	snprintf(path, sizeof(path), "/sys/block/%s/%s", disk->name, skip ? "device/vpd_pg80" : "serial");
	fd = open(path, O_RDONLY);
	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) < 0)
			perror(path);
		close(fd);
	} else {
		snprintf(path, sizeof(path), "/sys/block/%s", disk->name);
		if (access(path, F_OK))
			return 0;
	}
	memcpy(disk->serial, text + skip, SHOWN_SERIAL_BYTES);
	disk->serial[strcspn(disk->serial, "\n")] = 0;
	return 1;
}

static int open_disk(struct disk *disk, const char *kind, int index)
{
	char path[64];
	off_t bytes;

	memset(disk, 0, sizeof(*disk));
	snprintf(disk->name, sizeof(disk->name), "%s%c", kind, 'a' + index);
	if (!read_serial(disk))
		return 0;
	snprintf(path, sizeof(path), "/dev/%s", disk->name);
	disk->fd = open(path, O_RDWR | O_DIRECT | O_SYNC);
	if (disk->fd < 0) {
		perror(path);
		return 0;
	}
	bytes = lseek(disk->fd, 0, SEEK_END);
	disk->slots = bytes / BLOCK_BYTES < MAX_SLOTS ? bytes / BLOCK_BYTES : MAX_SLOTS;
	return 1;
}

static void *write_for_ever(void *disk_count)
{
	static struct disk disks[MAX_DISKS];
	struct block *blocks;
	uint64_t first, seq = UINT64_MAX;
	int count = 0, wanted = *(int *)disk_count;

	if (posix_memalign((void **)&blocks, BLOCK_BYTES, SCAN_BLOCKS * BLOCK_BYTES))
		return NULL;
	while (count < MAX_DISKS && open_disk(&disks[count], "vd", count))
		count++;
	/* SCSI disks are found while the system runs already. */
	for (int scsi = 0; count < wanted && count < MAX_DISKS && now_ms() < SCSI_WAIT_MS;) {
		if (open_disk(&disks[count], "sd", scsi)) {
			scsi++;
			count++;
		} else {
			pause_ms(50);
		}
	}
	/* A number that only some disks had when the guest stopped was never acknowledged: it is written again. */
	for (int i = 0; i < count; i++) {
		uint64_t last = last_on(&disks[i], blocks);

		seq = last < seq ? last : seq;
	}
	if (!count)
		seq = 0;
	first = ++seq;
	printf("START run=%016" PRIx64 " seq=%" PRIu64 " disks=%d\n", run_id, seq, count);
	for (; count; seq++) {
		int acknowledged = 0;

		for (int i = 0; i < count; i++)
			acknowledged += write_block(&disks[i], blocks, seq);
		if (acknowledged == count)
			printf("RUN %" PRIu64 " %" PRIu64 "\n", seq, now_ms());
		for (int i = 0; i < count; i++) {
			read_back(&disks[i], blocks, seq);
			read_back(&disks[i], blocks, older(&disks[i], first, seq));
		}
		pause_ms(ROUND_PAUSE_MS);
	}
	return NULL;
}

/* Stamps pages with their number and generation, and checks the stamp of each before the next. */
static void stamp_for_ever(size_t ram_mib, size_t dirty_mib_per_s)
{
	size_t pages = (ram_mib << 20) / BLOCK_BYTES, per_tick = dirty_mib_per_s * 256 / 100 + 1;
	uint64_t *memory = mmap(NULL, pages * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *generation = calloc(pages, sizeof(*generation));
	uint64_t checks = 0, bad = 0;
	const size_t words = BLOCK_BYTES / sizeof(*memory);

	if (memory == MAP_FAILED || !generation) {
		printf("MEM no memory for %zu pages\n", pages);
		return;
	}
	for (uint64_t tick = 1;; tick++) {
		for (size_t i = 0; i < per_tick; i++) {
			size_t page = (size_t)random() % pages;
			uint64_t *first = memory + page * words, *last = first + words - 1;
			uint64_t expected = generation[page] ? (uint64_t)page << 32 | generation[page] : 0;

			checks++;
			if (*first != expected || *last != expected) {
				bad++;
				say_corrupt("memory", "stamp", page);
			}
			generation[page]++;
			*first = *last = (uint64_t)page << 32 | generation[page];
		}
		if (tick % 100 == 0)
			printf("MEM checks=%" PRIu64 " bad=%" PRIu64 "\n", checks, bad);
		pause_ms(10);
	}
}

static void load_modules(void)
{
	char path[64];
	int fd;

	/* They are numbered in the order in which they need each other. */
	for (int i = 0;; i++) {
		snprintf(path, sizeof(path), "/modules/%02d.ko", i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (syscall(SYS_finit_module, fd, "", 0))
			perror(path);
		close(fd);
	}
}

static uint64_t kernel_argument(const char *name, int base, uint64_t otherwise)
{
	static char line[4096];
	char *found;
	int fd;

	fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
		perror("/proc/cmdline");
	close(fd);
	found = strstr(line, name);
	return found ? strtoull(found + strlen(name), NULL, base) : otherwise;
}

int main(void)
{
	static int disk_count;
	pthread_t writer;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	/* The kernel opened the console before there was a /dev. */
	dup2(open("/dev/ttyS0", O_RDWR | O_NOCTTY), 1);
	dup2(1, 2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules();
	make_crc_table();
	run_id = kernel_argument("lab.run=", 16, 0);
	disk_count = kernel_argument("lab.disks=", 10, 0);
	pthread_create(&writer, NULL, write_for_ever, &disk_count);
	stamp_for_ever(kernel_argument("lab.ram_mib=", 10, 16), kernel_argument("lab.dirty_mib=", 10, 4));
	for (;;)
		pause();
}
