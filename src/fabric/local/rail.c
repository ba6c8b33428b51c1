/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rail.c - the host as a rail. It is opened on a network interface like any other: that is where the control
 * channel is.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/local/local.h"

static const struct kvi_caps local_caps = {
	.provider = KVI_LOCAL_PROVIDER,
	.max_segment_len = KVI_LOCAL_SEGMENT_LEN,
	.tx_count = KVI_LOCAL_TX_COUNT,
	.rx_count = KVI_LOCAL_RX_COUNT,
	.inject_len = KVI_LOCAL_INJECT_LEN,
	.span_count = KVI_SPANS_MAX,
	.local_memory = false,
	.same_rkey = true,
	.stops_at_fault = true,
	.send_after_write = true,
	.holds_messages = true,
	.own_domains = true, /* so that workers do not meet at a lock */
	.one_host = true,
	.one_port = true,
	.shares = true,
	.poll_disarms = true,
	.quick_polls = true,
	.common_len = KVI_RING_COMMON_LEN,
	/* Two sides that copy side by side are faster than one that has the kernel copy, whatever the length. */
	.pack_below = SIZE_MAX,
	.pack_shared_below = 512 * 1024,
};

enum kvt_err kvi_local_rail_open(const char *interface, const char *provider,
				 struct kvi_rail **rail, struct kvt_error *error)
{
	if (provider == NULL || strcmp(provider, KVI_LOCAL_PROVIDER) != 0)
		return KVT_E_NO_PROVIDER;
	struct kvi_local_rail *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	enum kvt_err err = kvi_interface_find(interface, &opened->interface, error);
	if (err != KVT_OK) {
		kvi_free(opened);
		return err;
	}
	kvi_local_shares_init(opened);
	opened->base.fabric = &kvi_local_fabric;
	opened->base.caps = local_caps;
	opened->base.host = opened->interface.host;
	kvi_log(KVI_LOG_INFO, "rail-open", "%s: provider %s", interface, KVI_LOCAL_PROVIDER);
	*rail = &opened->base;
	return KVT_OK;
}

void kvi_local_rail_close(struct kvi_rail *base)
{
	struct kvi_local_rail *rail = kvi_local_rail(base);
	kvi_local_shares_destroy(rail);
	kvi_free(rail);
}

/* No CPU and no memory is nearer to the host than another. */
size_t kvi_local_rail_get_near_cpus(struct kvi_rail *base, unsigned *cpus, size_t max)
{
	(void)base;
	(void)cpus;
	(void)max;
	return 0;
}

void kvi_local_rail_bind_near(struct kvi_rail *rail_base, void *base, size_t len)
{
	(void)rail_base;
	(void)base;
	(void)len;
}
