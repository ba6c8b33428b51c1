/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - memory of a peer's that this process has mapped, for reading. It is a memfd sealed against shrinking, so all
 * of it stays there; reading a hole of it gets a page, as touching new memory of our own does, and fails as that does
 * where the host has no more. All lanes of a rail share one mapping, which goes with the last of them.
 *
 * What peers may have us map is bounded, in descriptors and in bytes: beyond it an offer is not taken (ENOMEM), and
 * what the peer has is copied another way.
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "fabric/local/local.h"

enum { RAM_FACTOR = 2 }; /* bytes mapped for a rail, at most: so many times the host's memory */

/* From here to there: what two offers have in common that share a mapping. */
#define KEY_LEN                                                                                    \
	(offsetof(struct kvi_local_map, len) + sizeof(size_t) -                                    \
	 offsetof(struct kvi_local_map, file))

static uint64_t get_bytes_max(void)
{
	return RAM_FACTOR * (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Under the lock. NULL: no memory, or too much of it. */
static struct kvi_local_map *make(struct kvi_local_rail *rail, const struct kvi_local_map *wanted)
{
	if (HASH_COUNT(rail->maps) >= KVI_LOCAL_MAPS_MAX ||
	    wanted->len > get_bytes_max() - rail->mapped_len)
		return NULL;
	struct kvi_local_map *map = kvi_alloc(sizeof(*map));
	if (map == NULL)
		return NULL;
	*map = *wanted;
	void *bytes = mmap(NULL, map->len, PROT_READ, MAP_SHARED, map->fd, 0);
	if (bytes == MAP_FAILED) {
		kvi_free(map);
		return NULL;
	}
	madvise(bytes, map->len, MADV_HUGEPAGE); /* a wish */
	map->bytes = bytes;
	HASH_ADD_KEYPTR(hh, rail->maps, &map->file, KEY_LEN, map);
	if (map->hh.tbl == NULL) {
		munmap(bytes, map->len);
		kvi_free(map);
		return NULL;
	}
	rail->mapped_len += map->len;
	return map;
}

/* The mapping of a file, with one user more; it owns fd. NULL: no memory. */
static struct kvi_local_map *get(struct kvi_local_rail *rail, size_t len, int fd)
{
	struct kvi_local_map wanted, *map;
	memset(&wanted, 0, sizeof(wanted)); /* padding, too, is part of the key */
	wanted.file = kvi_file_identify(fd);
	wanted.len = len;
	wanted.fd = fd;
	pthread_mutex_lock(&rail->maps_lock);
	HASH_FIND(hh, rail->maps, &wanted.file, KEY_LEN, map);
	bool is_known = map != NULL;
	if (!is_known)
		map = make(rail, &wanted);
	if (map != NULL)
		map->users++;
	pthread_mutex_unlock(&rail->maps_lock);
	if (is_known || map == NULL)
		close(fd);
	return map;
}

static void put(struct kvi_local_rail *rail, struct kvi_local_map *map)
{
	pthread_mutex_lock(&rail->maps_lock);
	if (--map->users == 0) {
		HASH_DEL(rail->maps, map);
		rail->mapped_len -= map->len;
		munmap((void *)(uintptr_t)map->bytes, map->len);
		if (kvi_file_is(map->fd, &map->file))
			close(map->fd);
		kvi_free(map);
	}
	pthread_mutex_unlock(&rail->maps_lock);
}

int kvi_local_take_offer(struct kvi_local_lane *lane, const struct kvi_local_offer *offer, int fd)
{
	struct stat stat;
	int seals = kvi_file_get_seals(fd); /* first: see there */
	bool is_right = seals >= 0 && (seals & F_SEAL_SHRINK) != 0 &&
			offer->slot < KVI_LOCAL_SLOTS && fstat(fd, &stat) == 0 && offer->len > 0 &&
			offer->len <= (uint64_t)stat.st_size;
	if (!is_right) {
		close(fd);
		return EPROTO;
	}
	struct kvi_local_map *map = get(lane->cq->rail, (size_t)offer->len, fd);
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
