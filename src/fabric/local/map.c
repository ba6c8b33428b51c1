/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - memory of a peer's that this process has mapped, for reading. It is a memfd sealed against shrinking,
 * so reading it cannot fault. All lanes of a rail share one mapping, which goes with the last of them.
 */
#define _GNU_SOURCE 1 /* F_GET_SEALS */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fabric/local/local.h"

static struct kvi_local_map *make(const struct stat *stat, int fd)
{
	struct kvi_local_map *map = kvi_alloc(sizeof(*map));
	if (map == NULL)
		return NULL;
	void *bytes = mmap(NULL, (size_t)stat->st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		kvi_free(map);
		return NULL;
	}
	madvise(bytes, (size_t)stat->st_size, MADV_HUGEPAGE); /* a wish */
	map->file.dev = stat->st_dev;
	map->file.ino = stat->st_ino;
	map->fd = fd;
	map->bytes = bytes;
	map->len = (size_t)stat->st_size;
	return map;
}

static void unmap(struct kvi_local_map *map)
{
	munmap((void *)(uintptr_t)map->bytes, map->len);
	if (kvi_fd_is(map->fd, map->file.ino))
		close(map->fd);
	kvi_free(map);
}

/* The mapping of a file, with one user more; it owns fd. NULL: no memory. */
static struct kvi_local_map *get(struct kvi_local_rail *rail, const struct stat *stat, int fd)
{
	struct kvi_local_file file;
	struct kvi_local_map *map;
	memset(&file, 0, sizeof(file)); /* its padding, too, is part of the key */
	file.dev = stat->st_dev;
	file.ino = stat->st_ino;
	pthread_mutex_lock(&rail->maps_lock);
	HASH_FIND(hh, rail->maps, &file, sizeof(file), map);
	if (map != NULL) {
		close(fd);
	} else {
		map = make(stat, fd);
		if (map != NULL)
			HASH_ADD(hh, rail->maps, file, sizeof(map->file), map);
		if (map != NULL && map->hh.tbl == NULL) {
			unmap(map);
			map = NULL;
		} else if (map == NULL) {
			close(fd);
		}
	}
	if (map != NULL)
		map->users++;
	pthread_mutex_unlock(&rail->maps_lock);
	return map;
}

static void put(struct kvi_local_rail *rail, struct kvi_local_map *map)
{
	pthread_mutex_lock(&rail->maps_lock);
	if (--map->users == 0) {
		HASH_DEL(rail->maps, map);
		unmap(map);
	}
	pthread_mutex_unlock(&rail->maps_lock);
}

int kvi_local_take_offer(struct kvi_local_lane *lane, const struct kvi_local_offer *offer, int fd)
{
	struct stat stat;
	struct statfs statfs;
	int seals = fcntl(fd, F_GET_SEALS);
	/* Huge pages that were promised may be missing, which kills who reads them. */
	bool is_right = fstatfs(fd, &statfs) == 0 && statfs.f_type == TMPFS_MAGIC && seals >= 0 &&
			(seals & F_SEAL_SHRINK) != 0 && offer->slot < KVI_LOCAL_SLOTS &&
			fstat(fd, &stat) == 0 && stat.st_size > 0 &&
			offer->len <= (uint64_t)stat.st_size;
	if (!is_right) {
		close(fd);
		return EPROTO;
	}
	struct kvi_local_map *map = get(lane->cq->rail, &stat, fd);
	if (map == NULL)
		return ENOMEM;
	if (lane->maps[offer->slot] != NULL)
		put(lane->cq->rail, lane->maps[offer->slot]);
	lane->maps[offer->slot] = map;
	atomic_store_explicit(&lane->ring.own->maps, ++lane->map_count, memory_order_release);
	return 0;
}

void kvi_local_drop_maps(struct kvi_local_lane *lane)
{
	for (unsigned slot = 0; slot < KVI_LOCAL_SLOTS; slot++) {
		if (lane->maps[slot] != NULL)
			put(lane->cq->rail, lane->maps[slot]);
		lane->maps[slot] = NULL;
	}
}

const uint8_t *kvi_local_find_mapped(const struct kvi_local_lane *lane, uint64_t source, size_t len,
				     const struct kvi_local_map **map)
{
	uint64_t slot = source >> KVI_LOCAL_SLOT_BIT;
	uint64_t offset = source & ((UINT64_C(1) << KVI_LOCAL_SLOT_BIT) - 1);
	*map = slot < KVI_LOCAL_SLOTS ? lane->maps[slot] : NULL;
	if (*map == NULL || offset > (*map)->len || len > (*map)->len - offset)
		return NULL;
	return (*map)->bytes + offset;
}
