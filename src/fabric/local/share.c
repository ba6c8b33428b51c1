/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - memory of ours that peers may map: it is offered to a lane's peer when the lane first needs it, by its
 * descriptor, which is opened for reading only. That keeps a peer from writing by mistake, and not one that wants to:
 * it can open the file again, by its descriptor's name in /proc, for writing. (F_SEAL_FUTURE_WRITE would forbid that,
 * and forbids us to give the memory back.) What the peer has mapped is named by a slot of the lane.
 *
 * A slot is given to other memory only when what it stood for is shared no more: then nothing in flight names it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "fabric/local/local.h"

void kvi_local_shares_init(struct kvi_local_rail *rail)
{
	pthread_rwlock_init(&rail->shares_lock, NULL);
	pthread_mutex_init(&rail->maps_lock, NULL);
}

void kvi_local_shares_destroy(struct kvi_local_rail *rail)
{
	kvi_free(rail->shares);
	pthread_rwlock_destroy(&rail->shares_lock);
	pthread_mutex_destroy(&rail->maps_lock);
}

/* How many begin at base or before; under the lock. */
static size_t count_up_to(const struct kvi_local_rail *rail, const void *base)
{
	size_t low = 0, high = rail->share_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if ((uintptr_t)rail->shares[middle].base <= (uintptr_t)base)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for one more; under the lock. */
static bool make_room(struct kvi_local_rail *rail)
{
	if (rail->share_count < rail->share_room)
		return true;
	size_t room = rail->share_room * 2 + 8;
	struct kvi_local_share *shares = kvi_alloc_array(room, sizeof(shares[0]));
	if (shares == NULL)
		return false;
	if (rail->share_count > 0)
		memcpy(shares, rail->shares, rail->share_count * sizeof(shares[0]));
	kvi_free(rail->shares);
	rail->shares = shares;
	rail->share_room = room;
	return true;
}

enum kvt_err kvi_local_rail_share(struct kvi_rail *rail_base, void *base, size_t len, int fd)
{
	struct kvi_local_rail *rail = kvi_local_rail(rail_base);
	pthread_rwlock_wrlock(&rail->shares_lock);
	bool has_room = make_room(rail);
	if (has_room) {
		size_t at = count_up_to(rail, base);
		memmove(&rail->shares[at + 1], &rail->shares[at],
			(rail->share_count - at) * sizeof(rail->shares[0]));
		rail->shares[at] = (struct kvi_local_share){
			.base = base,
			.len = len,
			.fd = fd,
			.file = kvi_file_identify(fd),
			.id = ++rail->last_share,
		};
		rail->share_count++;
	}
	pthread_rwlock_unlock(&rail->shares_lock);
	return has_room ? KVT_OK : KVT_E_NO_MEMORY;
}

void kvi_local_rail_unshare(struct kvi_rail *rail_base, void *base)
{
	struct kvi_local_rail *rail = kvi_local_rail(rail_base);
	pthread_rwlock_wrlock(&rail->shares_lock);
	size_t at = count_up_to(rail, base);
	if (at > 0 && rail->shares[at - 1].base == base) {
		memmove(&rail->shares[at - 1], &rail->shares[at],
			(rail->share_count - at) * sizeof(rail->shares[0]));
		rail->share_count--;
		rail->unshare_count++;
	}
	pthread_rwlock_unlock(&rail->shares_lock);
}

/* The share that holds all of it; NULL: there is none. Under the lock. */
static const struct kvi_local_share *find(const struct kvi_local_rail *rail, const void *base,
					  size_t len)
{
	size_t at = count_up_to(rail, base);
	if (at == 0)
		return NULL;
	const struct kvi_local_share *share = &rail->shares[at - 1];
	size_t offset = (size_t)((const uint8_t *)base - share->base);
	return offset <= share->len && len <= share->len - offset ? share : NULL;
}

bool kvi_local_is_shared(struct kvi_local_rail *rail, const void *base, size_t len)
{
	pthread_rwlock_rdlock(&rail->shares_lock);
	bool is_shared = find(rail, base, len) != NULL;
	pthread_rwlock_unlock(&rail->shares_lock);
	return is_shared;
}

bool kvi_local_goes_along(const struct kvi_local_lane *lane, const struct kvi_span *spans,
			  size_t count, size_t len)
{
	bool is_shared = len <= KVI_LOCAL_ALONG_LEN;
	for (size_t i = 0; i < count && is_shared; i++)
		is_shared = kvi_local_is_shared(lane->cq->rail, spans[i].base, spans[i].len);
	return is_shared;
}

/* ---- offers ---- */

static bool has_id(const struct kvi_local_rail *rail, uint64_t id)
{
	for (size_t i = 0; i < rail->share_count; i++)
		if (rail->shares[i].id == id)
			return true;
	return false;
}

/* A slot that names nothing any more; KVI_LOCAL_SLOTS: there is none. Then nobody looks again before something is
 * unshared: each operation from memory that has no slot asks. */
static unsigned find_free_slot(struct kvi_local_lane *lane)
{
	const struct kvi_local_rail *rail = lane->cq->rail;
	unsigned slot = 0;
	if (lane->full_at == rail->unshare_count + 1)
		return KVI_LOCAL_SLOTS;
	while (slot < KVI_LOCAL_SLOTS && lane->slots[slot].share != 0 &&
	       has_id(rail, lane->slots[slot].share))
		slot++;
	if (slot == KVI_LOCAL_SLOTS)
		lane->full_at = rail->unshare_count + 1;
	return slot;
}

static bool send_offer(struct kvi_local_lane *lane, const struct kvi_local_offer *offer, int fd)
{
	return kvi_local_lane_has_socket(lane) &&
	       kvi_local_send(lane->socket, offer, sizeof(*offer), fd) == (ssize_t)sizeof(*offer);
}

/* It will be named by this slot once the peer has mapped it. Whatever fails is tried again with the next op. A
 * descriptor that the application has closed is another file now, which is not to be opened: that may take forever. */
static void offer(struct kvi_local_lane *lane, const struct kvi_local_share *share)
{
	unsigned slot = find_free_slot(lane);
	if (slot == KVI_LOCAL_SLOTS || !kvi_file_is(share->fd, &share->file))
		return;
	char path[40];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	const struct kvi_local_offer offered = { slot, share->len };
	if (send_offer(lane, &offered, fd))
		lane->slots[slot] = (struct kvi_local_slot){ share->id, ++lane->offer_count };
	close(fd);
}

/* The slot that it was offered by; KVI_LOCAL_SLOTS: it was not. */
static unsigned find_slot(struct kvi_local_lane *lane, uint64_t id)
{
	if (lane->slots[lane->last_slot].share == id)
		return lane->last_slot;
	for (unsigned slot = 0; slot < KVI_LOCAL_SLOTS; slot++) {
		if (lane->slots[slot].share != id)
			continue;
		lane->last_slot = slot;
		return slot;
	}
	return KVI_LOCAL_SLOTS;
}

bool kvi_local_point_out(struct kvi_local_lane *lane, const void *base, size_t len,
			 uint64_t *source)
{
	struct kvi_local_rail *rail = lane->cq->rail;
	unsigned slot = KVI_LOCAL_SLOTS;
	pthread_rwlock_rdlock(&rail->shares_lock);
	const struct kvi_local_share *share = find(rail, base, len);
	if (share != NULL) {
		slot = find_slot(lane, share->id);
		*source = (uint64_t)slot << KVI_LOCAL_SLOT_BIT |
			  (uint64_t)((const uint8_t *)base - share->base);
		if (slot == KVI_LOCAL_SLOTS)
			offer(lane, share);
	}
	pthread_rwlock_unlock(&rail->shares_lock);
	return slot < KVI_LOCAL_SLOTS &&
	       atomic_load_explicit(&lane->ring.other->maps, memory_order_acquire) >=
		       lane->slots[slot].number;
}
