/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - listeners and the lane requests that arrive at them. Who asks is not checked here: the
 * bytes a request carries are the caller's to judge.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/internal.h"

enum { CM_DATA_LEN_MAX = 256 };

/* Requests keep their listener: rejecting one needs it. */
struct kvi_listener {
	struct kvi_rail *rail;
	struct fid_pep *pep;
	struct fid_eq *eq;
	int fd;
	atomic_uint users;
	size_t address_len;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
};

enum kvt_err kvi_listener_open(struct kvi_rail *rail, struct kvi_listener **listener,
			       struct kvt_error *error)
{
	struct kvi_listener *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->rail = rail;
	opened->address_len = sizeof(opened->address);
	atomic_init(&opened->users, 1);

	const char *what = "fi_eq_open";
	struct fi_eq_attr attr = { .wait_obj = FI_WAIT_FD };
	int ret = fi_eq_open(rail->fabric, &attr, &opened->eq, NULL);
	if (ret != 0)
		goto free_listener;
	what = "FI_GETWAIT";
	ret = fi_control(&opened->eq->fid, FI_GETWAIT, &opened->fd);
	if (ret != 0)
		goto close_eq;
	what = "fi_passive_ep";
	ret = fi_passive_ep(rail->fabric, rail->info, &opened->pep, NULL);
	if (ret != 0)
		goto close_eq;
	what = "fi_listen";
	ret = fi_pep_bind(opened->pep, &opened->eq->fid, 0);
	if (ret == 0)
		ret = fi_listen(opened->pep);
	if (ret == 0)
		ret = fi_getname(&opened->pep->fid, opened->address, &opened->address_len);
	if (ret != 0)
		goto close_pep;
	kvi_socket_bound_listener(opened->address, opened->address_len);
	*listener = opened;
	return KVT_OK;

close_pep:
	fi_close(&opened->pep->fid);
close_eq:
	fi_close(&opened->eq->fid);
free_listener:
	kvi_free(opened);
	return kvi_fabric_fail(error, ret, what);
}

static void reject_all(struct kvi_listener *listener)
{
	struct kvi_lane_request *request;
	while ((request = kvi_listener_take(listener)) != NULL)
		kvi_lane_request_reject(request);
}

static void put_listener(struct kvi_listener *listener)
{
	if (atomic_fetch_sub(&listener->users, 1) != 1)
		return;
	if (listener->rail->profile->strays) {
		atomic_store(&listener->users, 1); /* for the requests that may still come */
		kvi_socket_end_strays(listener->address, listener->address_len);
		reject_all(listener);
		kvi_socket_close_strays(listener->address, listener->address_len);
	}
	fi_close(&listener->pep->fid);
	fi_close(&listener->eq->fid);
	kvi_free(listener);
}

void kvi_listener_close(struct kvi_listener *listener)
{
	if (listener == NULL)
		return;
	reject_all(listener);
	put_listener(listener);
}

size_t kvi_listener_get_address(const struct kvi_listener *listener, uint8_t *address)
{
	memcpy(address, listener->address, listener->address_len);
	return listener->address_len;
}

int kvi_listener_get_fd(const struct kvi_listener *listener)
{
	return listener->fd;
}

/* A request of an event; NULL when it is rejected here, for its data or for lack of memory. */
static struct kvi_lane_request *make_request(struct kvi_listener *listener,
					     const struct fi_eq_cm_entry *entry, size_t len)
{
	struct kvi_lane_request *request =
		len <= KVI_LANE_DATA_LEN_MAX ? kvi_alloc(sizeof(*request)) : NULL;
	if (request == NULL) {
		fi_reject(listener->pep, entry->info->handle, NULL, 0);
		fi_freeinfo(entry->info);
		return NULL;
	}
	atomic_fetch_add(&listener->users, 1);
	request->listener = listener;
	request->info = entry->info;
	request->len = len;
	memcpy(request->data, entry->data, len);
	return request;
}

struct kvi_lane_request *kvi_listener_take(struct kvi_listener *listener)
{
	union {
		struct fi_eq_cm_entry entry;
		uint8_t bytes[sizeof(struct fi_eq_cm_entry) + CM_DATA_LEN_MAX];
	} buffer;
	struct fid *fids[] = { &listener->eq->fid };
	for (;;) {
		uint32_t event = 0;
		errno = 0; /* of a connection that ends early a provider reads a stale one */
		ssize_t ret = fi_eq_read(listener->eq, &event, &buffer, sizeof(buffer), 0);
		if (ret >= (ssize_t)sizeof(buffer.entry) && event == FI_CONNREQ) {
			struct kvi_lane_request *request = make_request(
				listener, &buffer.entry, (size_t)ret - sizeof(buffer.entry));
			if (request != NULL)
				return request;
		} else if (ret == -FI_EAVAIL) {
			struct fi_eq_err_entry failure = { .fid = NULL };
			if (fi_eq_readerr(listener->eq, &failure, 0) <= 0)
				return NULL;
		} else if (ret != -FI_EAGAIN ||
			   fi_trywait(listener->rail->fabric, fids, 1) != -FI_EAGAIN) {
			/* Asking for leave to sleep is what makes the fd unreadable again. */
			return NULL;
		}
	}
}

const uint8_t *kvi_lane_request_get_data(const struct kvi_lane_request *request, size_t *len)
{
	*len = request->len;
	return request->data;
}

void kvi_lane_request_free(struct kvi_lane_request *request)
{
	fi_freeinfo(request->info);
	put_listener(request->listener);
	kvi_free(request);
}

void kvi_lane_request_reject(struct kvi_lane_request *request)
{
	if (!request->is_used)
		fi_reject(request->listener->pep, request->info->handle, NULL, 0);
	kvi_lane_request_free(request);
}
