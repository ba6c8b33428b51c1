/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - what a fabric has to provide: operations, each of which does what fabric.h says of the function with
 * its name; and the beginning of each of its objects, which it fills in. fabrics.c lists the tables.
 */
#ifndef KVI_FABRIC_TABLE_H
#define KVI_FABRIC_TABLE_H

#include "fabric/fabric.h"

struct kvi_rail {
	const struct kvi_fabric *fabric;
	struct kvi_caps caps;
	const char *host;
};

struct kvi_cq {
	const struct kvi_fabric *fabric;
};

struct kvi_memory {
	const struct kvi_fabric *fabric;
	struct kvi_rkey rkey;
};

struct kvi_listener {
	const struct kvi_fabric *fabric;
	int fd;
	bool lacks_fds; /* since the last take */
	size_t address_len;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
};

struct kvi_lane_request {
	const struct kvi_fabric *fabric;
	size_t len;
	uint8_t data[KVI_LANE_DATA_LEN_MAX];
};

struct kvi_lane {
	const struct kvi_fabric *fabric;
};

/* Where a caller may pass NULL for an object, the call never gets here with NULL. */
struct kvi_fabric {
	/* KVT_E_NO_PROVIDER: the next fabric is asked. */
	enum kvt_err (*rail_open)(const char *interface, const char *provider,
				  struct kvi_rail **rail, struct kvt_error *error);
	void (*rail_close)(struct kvi_rail *rail);
	size_t (*rail_get_near_cpus)(struct kvi_rail *rail, unsigned *cpus, size_t max);
	void (*rail_bind_near)(struct kvi_rail *rail, void *base, size_t len);
	/* NULL without caps.shares. */
	enum kvt_err (*rail_share)(struct kvi_rail *rail, void *base, size_t len, int fd);
	void (*rail_unshare)(struct kvi_rail *rail, void *base);

	enum kvt_err (*cq_open)(struct kvi_rail *rail, struct kvi_cq **cq, struct kvt_error *error);
	void (*cq_close)(struct kvi_cq *cq);
	void (*cq_forget)(struct kvi_cq *cq);
	size_t (*cq_poll)(struct kvi_cq *cq, struct kvi_completion *completions, size_t max);
	size_t (*cq_poll_events)(struct kvi_cq *cq, struct kvi_lane_event *events, size_t max);
	void (*cq_get_fds)(const struct kvi_cq *cq, int fds[2]);
	bool (*cq_may_sleep)(struct kvi_cq *cq);

	enum kvt_err (*memory_open)(struct kvi_cq *cq, void *base, size_t len, unsigned access,
				    uint64_t key, struct kvi_memory **memory,
				    struct kvt_error *error);
	void (*memory_close)(struct kvi_memory *memory);

	enum kvt_err (*listener_open)(struct kvi_rail *rail, struct kvi_ports ports,
				      struct kvi_listener **listener, struct kvt_error *error);
	void (*listener_close)(struct kvi_listener *listener);
	struct kvi_lane_request *(*listener_take)(struct kvi_listener *listener);
	void (*lane_request_reject)(struct kvi_lane_request *request);

	enum kvt_err (*lane_open)(struct kvi_cq *cq, const uint8_t *address, size_t address_len,
				  struct kvi_lane_request *request, void *context,
				  struct kvi_lane **lane, struct kvt_error *error);
	enum kvt_err (*lane_connect)(struct kvi_lane *lane, const uint8_t *data, size_t len,
				     struct kvt_error *error);
	void (*lane_close)(struct kvi_lane *lane);
	void (*lane_get_flow)(struct kvi_lane *lane, struct kvi_flow *flow);
	uint64_t (*flow_get_moved)(const struct kvi_flow *flow);
	/* NULL without caps.common_len. */
	enum kvt_err (*lane_get_common)(struct kvi_lane *lane, struct kvi_common *common);

	enum kvt_err (*lane_post_recv)(struct kvi_lane *lane, struct kvi_op *op, void *buffer,
				       size_t len, struct kvi_memory *memory);
	enum kvt_err (*lane_post_send)(struct kvi_lane *lane, struct kvi_op *op, const void *buffer,
				       size_t len, struct kvi_memory *memory,
				       enum kvi_signal signal);
	enum kvt_err (*lane_inject)(struct kvi_lane *lane, const void *buffer, size_t len);
	enum kvt_err (*lane_post_write)(struct kvi_lane *lane, struct kvi_op *op,
					const struct kvi_span *spans, size_t count,
					enum kvi_delivery delivery);
	enum kvt_err (*lane_post_read)(struct kvi_lane *lane, struct kvi_op *op,
				       const struct kvi_span *spans, size_t count);
};

/* Those there are, in the order in which they are asked; the last is NULL. */
extern const struct kvi_fabric *const kvi_fabrics[];

extern const struct kvi_fabric kvi_ofi_fabric;	 /* ofi.c: libfabric's */
extern const struct kvi_fabric kvi_local_fabric; /* local/local.c: between processes of one host */

#endif
