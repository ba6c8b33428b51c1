/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.c - see hostile.h. It looks at what came of its operations, and never gives up by itself. */
#include "hostile.h"

#include <rdma/fi_atomic.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdlib.h>

#include "fabric/internal.h"

enum { CQ_SIZE = 256, EVENT_LEN_MAX = 256 };

static void must_do(const char *call, long ret)
{
	ck_assert_msg(ret == 0, "the hostile peer: %s: %s", call, fi_strerror((int)-ret));
}

/* ---- opening and closing ---- */

static bool find_provider(struct hostile *hostile, const struct bed *bed, uint64_t caps)
{
	struct fi_info *hints = fi_allocinfo();
	ck_assert_ptr_nonnull(hints);
	hints->caps = caps;
	hints->ep_attr->type = FI_EP_MSG;
	hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
				      FI_MR_PROV_KEY;
	hints->fabric_attr->prov_name = strdup(bed->far.caps->provider);
	int ret = fi_getinfo(FI_VERSION(1, 17), kvi_rail_get_host(bed->far.rail), NULL, FI_SOURCE,
			     hints, &hostile->info);
	fi_freeinfo(hints);
	return ret == 0;
}

static void open_endpoint(struct hostile *hostile, const uint8_t *address, size_t address_len)
{
	struct fi_eq_attr eq_attr = { .wait_obj = FI_WAIT_NONE };
	struct fi_cq_attr cq_attr = {
		.size = CQ_SIZE,
		.format = FI_CQ_FORMAT_DATA,
		.wait_obj = FI_WAIT_NONE,
	};
	struct fi_info *info = hostile->info;
	free(info->dest_addr);
	info->dest_addr = malloc(address_len); /* fi_freeinfo() frees it */
	ck_assert_ptr_nonnull(info->dest_addr);
	memcpy(info->dest_addr, address, address_len);
	info->dest_addrlen = address_len;

	must_do("fi_fabric", fi_fabric(info->fabric_attr, &hostile->fabric, NULL));
	must_do("fi_domain", fi_domain(hostile->fabric, info, &hostile->domain, NULL));
	must_do("fi_eq_open", fi_eq_open(hostile->fabric, &eq_attr, &hostile->eq, NULL));
	must_do("fi_cq_open", fi_cq_open(hostile->domain, &cq_attr, &hostile->cq, NULL));
	must_do("fi_mr_reg",
		fi_mr_reg(hostile->domain, hostile->bytes, HOSTILE_LEN + HOSTILE_SHORT_LEN,
			  FI_READ | FI_WRITE, 0, 1, 0, &hostile->mr, NULL));
	must_do("fi_endpoint", fi_endpoint(hostile->domain, info, &hostile->ep, NULL));
	must_do("fi_ep_bind", fi_ep_bind(hostile->ep, &hostile->eq->fid, 0));
	must_do("fi_ep_bind", fi_ep_bind(hostile->ep, &hostile->cq->fid, FI_TRANSMIT | FI_RECV));
	must_do("fi_enable", fi_enable(hostile->ep));
}

/* With data of the length that a lane of this provider has. */
static void connect_endpoint(struct hostile *hostile, const uint8_t *address, bool pads)
{
	uint8_t padded[KVI_CM_DATA_LEN] = "hello";
	padded[KVI_CM_DATA_LEN - 1] = 5;
	must_do("fi_connect", fi_connect(hostile->ep, address, padded, pads ? sizeof(padded) : 5));
}

void hostile_open(struct hostile *hostile, struct bed *bed)
{
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t address_len = kvi_listener_get_address(bed->listener, address);
	void *bytes = NULL;
	*hostile = (struct hostile){ .connected = false };
	ck_assert_int_eq(posix_memalign(&bytes, 4096, HOSTILE_LEN + HOSTILE_SHORT_LEN), 0);
	hostile->bytes = bytes;
	memset(bytes, HOSTILE_FILL, HOSTILE_LEN + HOSTILE_SHORT_LEN);
	/* libfabric's sockets lets nobody connect whose capabilities are not its own; hardware cannot tell. */
	uint64_t more = bed->far.caps->local_memory ? FI_ATOMIC : 0;
	ck_assert_msg(find_provider(hostile, bed, FI_MSG | FI_RMA | more) ||
			      find_provider(hostile, bed, FI_MSG | FI_RMA),
		      "the hostile peer finds no provider");
	open_endpoint(hostile, address, address_len);
	connect_endpoint(hostile, address, kvi_ofi_rail(bed->far.rail)->profile->strays);

	struct kvi_lane_request *request = NULL;
	bed_wait(bed,
		 hostile_poll(hostile) && (request = kvi_listener_take(bed->listener)) != NULL);
	end_accept(&hostile->far, bed, request);
	area_open(&hostile->inbox, &bed->far, 64, KVI_ACCESS_LOCAL, 0);
	post_recv(&hostile->far, &hostile->receive, &hostile->inbox, 0, 64);
	bed_wait(bed,
		 hostile_poll(hostile) && hostile->connected && hostile->far.connected_count == 1);
}

void hostile_close(struct hostile *hostile)
{
	fi_close(&hostile->ep->fid);
	fi_close(&hostile->mr->fid);
	fi_close(&hostile->cq->fid);
	fi_close(&hostile->eq->fid);
	fi_close(&hostile->domain->fid);
	fi_close(&hostile->fabric->fid);
	fi_freeinfo(hostile->info);
	if (hostile->far.lane != NULL)
		end_close(&hostile->far);
	while (hostile->receive.reports == 0)
		side_poll(hostile->far.side);
	area_close(&hostile->inbox);
	free(hostile->bytes);
}

/* ---- doing harm ---- */

bool hostile_can(const struct hostile *hostile, enum hostile_way way)
{
	size_t count = 0;
	return way != HOSTILE_ATOMIC ||
	       ((hostile->info->caps & FI_ATOMIC) != 0 &&
		fi_fetch_atomicvalid(hostile->ep, FI_UINT64, FI_SUM, &count) == 0);
}

static ssize_t post_delivered(struct hostile *hostile, size_t len, struct kvi_rkey target)
{
	struct iovec local = { .iov_base = hostile->bytes, .iov_len = len };
	void *desc = fi_mr_desc(hostile->mr);
	struct fi_rma_iov remote = { .addr = target.address, .len = len, .key = target.key };
	struct fi_msg_rma message = {
		.msg_iov = &local,
		.desc = &desc,
		.iov_count = 1,
		.rma_iov = &remote,
		.rma_iov_count = 1,
	};
	return fi_writemsg(hostile->ep, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE);
}

bool hostile_post(struct hostile *hostile, enum hostile_way way, size_t len, struct kvi_rkey target)
{
	struct fid_ep *ep = hostile->ep;
	uint8_t *bytes = hostile->bytes;
	void *desc = fi_mr_desc(hostile->mr);
	ssize_t ret = -FI_EOPNOTSUPP;
	switch (way) {
	case HOSTILE_WRITE:
		ret = fi_write(ep, bytes, len, desc, 0, target.address, target.key, NULL);
		break;
	case HOSTILE_WRITE_DELIVERED:
		ret = post_delivered(hostile, len, target);
		break;
	case HOSTILE_INJECT:
		ret = fi_inject_write(ep, bytes, len, 0, target.address, target.key);
		break;
	case HOSTILE_WRITE_DATA:
		ret = fi_writedata(ep, bytes, len, desc, 7, 0, target.address, target.key, NULL);
		break;
	case HOSTILE_ATOMIC:
		ret = fi_fetch_atomic(ep, bytes, 1, desc, bytes + HOSTILE_LEN, desc, 0,
				      target.address, target.key, FI_UINT64, FI_SUM, NULL);
		break;
	case HOSTILE_READ:
		ret = fi_read(ep, bytes, len, desc, 0, target.address, target.key, NULL);
		break;
	}
	if (ret == 0 && way != HOSTILE_INJECT)
		hostile->posted++;
	return ret == 0;
}

bool hostile_poll(struct hostile *hostile)
{
	struct fi_cq_data_entry entry;
	struct fi_cq_err_entry failure = { .op_context = NULL };
	ssize_t ret = fi_cq_read(hostile->cq, &entry, 1);
	if (ret == 1)
		hostile->done++;
	else if (ret == -FI_EAVAIL && fi_cq_readerr(hostile->cq, &failure, 0) > 0)
		hostile->failed++;

	union {
		struct fi_eq_cm_entry entry;
		uint8_t bytes[sizeof(struct fi_eq_cm_entry) + EVENT_LEN_MAX];
	} event;
	uint32_t kind = 0;
	ret = fi_eq_read(hostile->eq, &kind, &event, sizeof(event), 0);
	if (ret >= (ssize_t)sizeof(event.entry)) {
		hostile->connected |= kind == FI_CONNECTED;
		hostile->lost |= kind == FI_SHUTDOWN;
	} else if (ret == -FI_EAVAIL) {
		struct fi_eq_err_entry cause = { .fid = NULL };
		hostile->lost |= fi_eq_readerr(hostile->eq, &cause, 0) > 0;
	}
	return true;
}
