/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_memory.c - memory for a pool that the application has none for: of the engine's, or of a file in memory that it
 * was given. Who may map it, is the rails' business (share.c of the local fabric).
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK, F_DUPFD_CLOEXEC */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "engine/core/engine.h"
#include "engine/paged/pool.h"

enum {
	HUGE_PAGE_LEN = 2 * 1024 * 1024,
	EXTENT_ALIGN = 64,
	/* Of Linux 5.14 and 6.1, which the C library's headers may not know. */
	POPULATE_READ = 22,
	POPULATE_WRITE = 23,
	COLLAPSE = 25,
};

/* Longer than any memory. */
static const uint64_t LEN_MAX = UINT64_C(1) << 62;

static size_t round_up(size_t len, size_t to)
{
	return (len + to - 1) / to * to;
}

static enum kvt_err no_memory(struct kvt_error *error, size_t len, int err)
{
	return kvi_fail(error, KVT_E_NO_MEMORY, err, "no memory for a pool of %zu bytes: %s", len,
			strerror(err));
}

/* Lay the extents out from base on, one behind the other; each begins at a multiple of align. Where the last one ends. */
static uint64_t place_extents(struct kvt_pool *pool, uint8_t *base, uint64_t offset, size_t align)
{
	for (size_t i = 0; i < pool->layout.extent_count; i++) {
		const struct kvi_extent *extent = &pool->layout.extents[i];
		uint64_t len;
		pool->bases[i] = (uint8_t *)((uintptr_t)base + offset);
		if (__builtin_mul_overflow(extent->count, extent->stride, &len) ||
		    __builtin_add_overflow(offset, len, &offset) || offset > LEN_MAX)
			return LEN_MAX;
		offset = round_up(offset, align);
	}
	return offset;
}

/* For an older kernel. Reading makes a page of a file, but not one of other memory: that is written with what is there,
 * which disturbs nobody. */
static void touch_pages(uint8_t *base, size_t len, bool read_only)
{
	const size_t page_len = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t at = 0; at < len; at += page_len) {
		_Atomic uint8_t *byte = (_Atomic uint8_t *)(base + at);
		uint8_t there = atomic_load(byte);
		if (!read_only)
			atomic_compare_exchange_strong(byte, &there, there);
	}
}

/* Have every page there now, so that no transfer waits for one; and as huge pages, where the kernel can join them. */
static enum kvt_err prepare(uint8_t *base, size_t len, unsigned flags, bool read_only,
			    struct kvt_error *error)
{
	if ((flags & (KVT_POOL_PREFAULT | KVT_POOL_HUGE_PAGES)) == 0)
		return KVT_OK;
	if (madvise(base, len, read_only ? POPULATE_READ : POPULATE_WRITE) != 0) {
		if (errno != EINVAL)
			return no_memory(error, len, errno);
		touch_pages(base, len, read_only);
	}
	if ((flags & KVT_POOL_HUGE_PAGES) != 0)
		madvise(base, len, COLLAPSE); /* a wish */
	return KVT_OK;
}

/* Put a file in place of memory that nobody has touched yet, where the fabric can share it. Without one the pool
 * works as well, and more slowly. */
static void map_file(struct kvt_pool *pool, uint8_t *base, size_t len)
{
	if (pool->engine->local.count == 0)
		return;
	/* Peers of this host may map it, and it cannot shrink under them. */
	pool->file = kvi_file_make_memory("kvtrans-pool", len,
					  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (pool->file < 0)
		return;
	pool->file_id = kvi_file_identify(pool->file);
	if (mmap(base, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pool->file, 0) ==
	    MAP_FAILED) {
		close(pool->file);
		pool->file = -1;
		return;
	}
	pool->shared = base;
	pool->shared_len = len;
}

enum kvt_err kvi_pool_allocate(struct kvt_pool *pool, unsigned flags, struct kvt_error *error)
{
	size_t len = round_up(place_extents(pool, NULL, 0, EXTENT_ALIGN), HUGE_PAGE_LEN);
	size_t all_len = len + HUGE_PAGE_LEN; /* so that it can begin with a huge page */
	uint8_t *mapped =
		mmap(NULL, all_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapped == MAP_FAILED)
		return no_memory(error, all_len, errno);
	pool->owned = mapped;
	pool->owned_len = all_len;
	uint8_t *base = mapped + (-(uintptr_t)mapped) % HUGE_PAGE_LEN;
	if ((flags & KVT_POOL_PRIVATE) == 0)
		map_file(pool, base, len);
	madvise(base, len, MADV_HUGEPAGE); /* a wish */
	kvi_rail_bind_near(pool->engine->rails[0], base, len);
	place_extents(pool, base, 0, EXTENT_ALIGN);
	return prepare(base, len, flags, false, error);
}

/* The application's file: is it memory, large enough, and open for what the pool does. */
static enum kvt_err check_file(const struct kvt_pool *pool, int fd, uint64_t needed,
			       struct kvt_error *error)
{
	struct statfs statfs;
	struct stat stat;
	int mode = fcntl(fd, F_GETFL);
	if (mode < 0 || fstat(fd, &stat) != 0 || fstatfs(fd, &statfs) != 0)
		return kvi_fail(error, KVT_E_INVALID, errno, "descriptor %d: %s", fd,
				strerror(errno));
	if (!S_ISREG(stat.st_mode) || statfs.f_type != TMPFS_MAGIC)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"descriptor %d is no memory: it must be a memfd of ordinary pages, "
				"or a file in /dev/shm",
				fd);
	if (needed > (uint64_t)stat.st_size)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"the file has %llu bytes, and the pool ends at %llu",
				(unsigned long long)stat.st_size, (unsigned long long)needed);
	if ((mode & O_ACCMODE) == O_WRONLY || (!pool->read_only && (mode & O_ACCMODE) == O_RDONLY))
		return kvi_fail(error, KVT_E_INVALID, 0, "descriptor %d is open for %s only; %s",
				fd, (mode & O_ACCMODE) == O_WRONLY ? "writing" : "reading",
				pool->read_only ? "a pool is read" : "make the pool read-only");
	return KVT_OK;
}

/* Peers may map it when it cannot shrink under them: what is no memfd, or not sealed, they copy by the kernel. */
static enum kvt_err keep_file(struct kvt_pool *pool, int fd, struct kvt_error *error)
{
	int seals = kvi_file_get_seals(fd);
	if (pool->engine->local.count == 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return KVT_OK;
	pool->file = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (pool->file < 0)
		return kvi_fail(error, KVT_E_LIMIT, errno, "no descriptor for the pool's file: %s",
				strerror(errno));
	pool->file_id = kvi_file_identify(pool->file);
	pool->shared = pool->owned;
	pool->shared_len = pool->owned_len;
	return KVT_OK;
}

enum kvt_err kvi_pool_adopt(struct kvt_pool *pool, const struct kvt_pool_config *config,
			    struct kvt_error *error)
{
	size_t len = place_extents(pool, NULL, config->file_offset, 1);
	enum kvt_err err = check_file(pool, config->file, len, error);
	if (err != KVT_OK)
		return err;
	const size_t page_len = (size_t)sysconf(_SC_PAGESIZE);
	int access = PROT_READ | (pool->read_only ? 0 : PROT_WRITE);
	void *mapped = mmap(NULL, len, access, MAP_SHARED, config->file, 0);
	if (mapped == MAP_FAILED)
		return kvi_fail(error, errno == ENOMEM ? KVT_E_NO_MEMORY : KVT_E_INVALID, errno,
				"mapping descriptor %d: %s", config->file, strerror(errno));
	pool->owned = mapped;
	pool->owned_len = len;
	pool->is_adopted = true;
	place_extents(pool, mapped, config->file_offset, 1);
	if ((config->flags & KVT_POOL_PRIVATE) == 0)
		err = keep_file(pool, config->file, error);
	if (err != KVT_OK)
		return err;
	/* What the file has before the pool is not ours to make. */
	size_t before = config->file_offset / page_len * page_len;
	return prepare((uint8_t *)mapped + before, len - before, config->flags, pool->read_only,
		       error);
}

void kvi_pool_free_memory(struct kvt_pool *pool)
{
	/* Peers may have the file mapped until their lanes go: it shall take no memory. No descriptor is needed for
	 * that. */
	if (pool->shared != NULL && !pool->is_adopted) {
		munlock(pool->shared, pool->shared_len); /* an mlockall() of the application's */
		madvise(pool->shared, pool->shared_len, MADV_REMOVE);
	}
	if (pool->owned != NULL)
		munmap(pool->owned, pool->owned_len);
	pool->shared = NULL;
	pool->owned = NULL;
}
