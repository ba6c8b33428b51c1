/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fabric.h - THE SEAM between the engine and what moves its bytes. It shows no libfabric type and knows
 * nothing of messages, KVs or peers. A fabric is a table of operations (table.h), and rails of several serve
 * side by side: libfabric's is in this directory, one in memory and scripted in tests/support.
 * tests/fabric states what all keep.
 *
 * A rail is one NIC. A cq is one worker's place on a rail: a completion queue, an event queue, and the
 * domain they live in (its own, or the rail's, as the provider gains). A lane is one connected endpoint
 * on a cq. An op is one posted operation; it is owned by the caller and lent to the fabric from a
 * successful post until kvi_cq_poll() reports it, which happens exactly once, also when its lane is
 * closed.
 *
 * Threads: calls on one cq and on its lanes exclude each other (the caller's lock). Rails, listeners
 * and memory may be used from any thread. Nothing here blocks, except kvi_rail_open() (it probes for up to a
 * second).
 */
#ifndef KVI_FABRIC_FABRIC_H
#define KVI_FABRIC_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvtrans.h>

struct kvi_fabric;
struct kvi_rail;
struct kvi_cq;
struct kvi_lane;
struct kvi_memory;
struct kvi_listener;
struct kvi_lane_request;

enum {
	KVI_PROVIDER_LEN = 32,
	KVI_ADDRESS_LEN_MAX = 128, /* of an endpoint's address */
	KVI_HOST_LEN = 64,	   /* of an IP address as text, with its zone */
	KVI_ADDRESS_TEXT_LEN = KVI_HOST_LEN + 16,
	KVI_LANE_DATA_LEN_MAX = 48, /* bytes a lane request carries; verbs has 55 at most */
	KVI_HOST_ID_LEN = 36,
	KVI_SPANS_MAX = 4, /* of one RMA operation: as many as tcp takes */
};

/* What the provider can do, as fi_info and the table of provider facts tell. */
struct kvi_caps {
	char provider[KVI_PROVIDER_LEN];
	size_t max_segment_len; /* largest RMA operation */
	size_t tx_count;   /* operations a lane may have posted; a post beyond gives KVT_E_AGAIN */
	size_t rx_count;   /* receives a lane may have posted */
	size_t inject_len; /* largest kvi_lane_inject(); 0: none */
	size_t span_count; /* spans that one RMA operation may have, at most KVI_SPANS_MAX */
	bool local_memory; /* buffers of send, recv, write and read need a registration */
	bool same_rkey;	   /* the caller chooses keys, and one key and address serve all domains */
	bool stops_at_fault;   /* what was posted behind an op that fails does not reach the peer */
	bool send_after_write; /* a send reaches the peer after the lane's earlier writes did */
	bool holds_messages;   /* a send that finds no receive posted waits for one, at no cost */
	bool own_domains;      /* each cq has a domain of its own */
	bool one_host;	       /* lanes stay on this host: no port and no firewall is theirs */
	bool one_port;	       /* lanes connect to the port of the listener and to no other */
	bool shares;	   /* memory in a file moves faster when it was shared: kvi_rail_share() */
	bool poll_disarms; /* a poll takes the fds from who sleeps on them: kvi_cq_may_sleep() */
	bool quick_polls;  /* kvi_cq_poll() looks into memory, without a system call */
	size_t common_len; /* of the memory that each side of a lane shows the other: kvi_lane_get_common(); 0: none */
	size_t pack_below; /* shorter blocks are cheaper to copy together than to write one by one */
	size_t pack_shared_below; /* the same of blocks in memory that was shared */
};

/* ---- the host ---- */

/*
 * What tells this host, since it was started, from all others; the same for all its processes, in containers, too.
 * Returns its length, 0 with errno set where the kernel does not tell it.
 */
size_t kvi_host_read_id(uint8_t id[KVI_HOST_ID_LEN]);

/* The provider whose lanes stay on this host. It is taken by its name only. */
#define KVI_LOCAL_PROVIDER "local"

/* ---- rails ---- */

/*
 * Open the NIC behind interface: a network interface, an RDMA device, or an IP address. provider NULL:
 * the best that serves it, of the first fabric that has one. Errors: INVALID (no such interface; text lists those there are),
 * NO_PROVIDER, FABRIC, NO_MEMORY.
 */
enum kvt_err kvi_rail_open(const char *interface, const char *provider, struct kvi_rail **rail,
			   struct kvt_error *error);
void kvi_rail_close(struct kvi_rail *rail); /* its cqs and listeners are closed */
const struct kvi_caps *kvi_rail_get_caps(const struct kvi_rail *rail);

/* The IP address that the rail's listener is reached at, as text. */
const char *kvi_rail_get_host(const struct kvi_rail *rail);

/* CPUs near the NIC (hwloc), at most max; 0 when unknown or when all are equally near. */
size_t kvi_rail_get_near_cpus(struct kvi_rail *rail, unsigned *cpus, size_t max);

/* Prefer the NUMA node near the NIC for memory that was not touched yet. Failing is harmless. */
void kvi_rail_bind_near(struct kvi_rail *rail, void *base, size_t len);

/*
 * Memory that peers' engines may map, where caps.shares: fd is a memfd sealed against shrinking, mapped at base from
 * its start, whose pages the caller frees (they may stay mapped elsewhere for as long as their lanes live). Unshare it
 * when nothing is in flight from or to it any more, before it is unmapped. Errors: NO_MEMORY.
 */
enum kvt_err kvi_rail_share(struct kvi_rail *rail, void *base, size_t len, int fd);
void kvi_rail_unshare(struct kvi_rail *rail, void *base);

/* ---- completion queues ---- */

struct kvi_op {
	void *context;	       /* the caller's */
	struct kvi_lane *lane; /* set by the post */
};

/* err: KVT_OK, KVT_E_CANCELLED (the lane was closed first), KVT_E_PEER_LOST, KVT_E_FABRIC. len: bytes
 * received, for a receive. */
struct kvi_completion {
	struct kvi_op *op;
	enum kvt_err err;
	int provider_errno;
	size_t len;
};

enum kvi_lane_event_kind {
	KVI_LANE_CONNECTED,
	KVI_LANE_LOST, /* refused, shut down by the peer, or failed; close the lane */
};

struct kvi_lane_event {
	enum kvi_lane_event_kind kind;
	void *context; /* given to kvi_lane_open() */
	int provider_errno;
};

enum kvt_err kvi_cq_open(struct kvi_rail *rail, struct kvi_cq **cq, struct kvt_error *error);
void kvi_cq_close(struct kvi_cq *cq); /* its lanes and memory are closed, everything reported */

/* The application has closed its descriptors: from now on the provider is called only to close lanes, and the
 * provider's objects are not closed with the cq. */
void kvi_cq_forget(struct kvi_cq *cq);

/* Make progress and report what completed, at most max. */
size_t kvi_cq_poll(struct kvi_cq *cq, struct kvi_completion *completions, size_t max);

/* Make progress of connecting lanes and report what happened to lanes, at most max. */
size_t kvi_cq_poll_events(struct kvi_cq *cq, struct kvi_lane_event *events, size_t max);

/* File descriptors that become readable when poll (fds[0]) or poll_events (fds[1]) has work. The same
 * for the life of the cq. */
void kvi_cq_get_fds(const struct kvi_cq *cq, int fds[2]);

/*
 * True when it is safe to sleep on the fds: asked right before each sleep. With caps.poll_disarms also by whoever has
 * polled while another slept on them and polls no more: true, and the fds wake that one again; false: wake it, as there
 * is something to poll for.
 */
bool kvi_cq_may_sleep(struct kvi_cq *cq);

/* ---- memory ---- */

enum {
	KVI_ACCESS_LOCAL = 0,	     /* source of send and write, target of recv and read */
	KVI_ACCESS_REMOTE_WRITE = 1, /* the peer may write it */
	KVI_ACCESS_REMOTE_READ = 2,
};

/* What a peer needs to reach the start of a registered range. */
struct kvi_rkey {
	uint64_t address;
	uint64_t key;
};

/*
 * Register [base, base+len) in the domain of cq. key: 64 random bits, used where the provider lets the
 * caller choose. Closing does NOT stop a write that is under way (tcp): only kvi_lane_close() does.
 * Errors: NO_MEMORY, LIMIT (RLIMIT_MEMLOCK; the text tells), FABRIC.
 */
enum kvt_err kvi_memory_open(struct kvi_cq *cq, void *base, size_t len, unsigned access,
			     uint64_t key, struct kvi_memory **memory, struct kvt_error *error);
void kvi_memory_close(struct kvi_memory *memory); /* NULL is allowed */
struct kvi_rkey kvi_memory_get_rkey(const struct kvi_memory *memory);

/* ---- listeners ---- */

/* Ports that a listener may take; low 0: any that is free. */
struct kvi_ports {
	uint16_t low;
	uint16_t high;
};

/* Accept lanes on the rail. Open only while an authenticated peer is about to connect. Errors: LIMIT
 * (all ports are in use), FABRIC, NO_MEMORY. */
enum kvt_err kvi_listener_open(struct kvi_rail *rail, struct kvi_ports ports,
			       struct kvi_listener **listener, struct kvt_error *error);
void kvi_listener_close(struct kvi_listener *listener); /* NULL is allowed */
/* Copies the address, at most KVI_ADDRESS_LEN_MAX bytes, and returns its length. */
size_t kvi_listener_get_address(const struct kvi_listener *listener, uint8_t *address);
int kvi_listener_get_fd(const struct kvi_listener *listener);

/* Such an address, of a listener of the peer's, as text for errors: "192.0.2.1 port 40000". */
void kvi_address_print(const uint8_t *address, size_t len, char text[KVI_ADDRESS_TEXT_LEN]);

/* The next lane request, NULL when there is none. It must be accepted (kvi_lane_open) or rejected. */
struct kvi_lane_request *kvi_listener_take(struct kvi_listener *listener);
/* Whether one waits that no descriptor was left for when it was to be taken: the listener's fd stays readable, and who
 * watches it looks away for a while. */
bool kvi_listener_lacks_fds(const struct kvi_listener *listener);
const uint8_t *kvi_lane_request_get_data(const struct kvi_lane_request *request, size_t *len);
void kvi_lane_request_reject(struct kvi_lane_request *request);

/* ---- lanes ---- */

/*
 * Make a lane on cq, not yet connected; receives can be posted. address: the peer's listener, or NULL
 * to answer request. On success the request is consumed. context comes back in events. Errors:
 * UNREACHABLE (the address is of another kind, or has no route), PEER_LOST (the request was
 * withdrawn), FABRIC, NO_MEMORY.
 */
enum kvt_err kvi_lane_open(struct kvi_cq *cq, const uint8_t *address, size_t address_len,
			   struct kvi_lane_request *request, void *context, struct kvi_lane **lane,
			   struct kvt_error *error);

/* Connect (data: at most KVI_LANE_DATA_LEN_MAX bytes for the listener) or accept. Success or failure
 * comes as an event. Errors: LIMIT (no descriptor is left), and those of kvi_lane_open(). */
enum kvt_err kvi_lane_connect(struct kvi_lane *lane, const uint8_t *data, size_t len,
			      struct kvt_error *error);

/*
 * What a connected lane's bytes travel on: a value that outlives the lane, and may be asked about from any
 * thread. moved grows whenever bytes come in, or the peer's host has got some of ours, also with
 * part of an operation; 0 where it is unknown, as with RDMA hardware.
 */
struct kvi_flow {
	const struct kvi_fabric *fabric; /* NULL: the lane has none */
	uint8_t own[KVI_ADDRESS_LEN_MAX];
	uint8_t peer[KVI_ADDRESS_LEN_MAX];
};
void kvi_lane_get_flow(struct kvi_lane *lane, struct kvi_flow *flow);
uint64_t kvi_flow_get_moved(const struct kvi_flow *flow);

/*
 * Memory of a connected lane that both sides see, caps.common_len bytes for each to fill and for the other to read: what
 * is written there before a send is there when that is received. The peer can change all of it at any time. Pages that
 * are not touched take no memory; it goes with kvi_lane_close(). Errors: NO_MEMORY.
 */
struct kvi_common {
	uint8_t *own;
	uint8_t *peer;
};
enum kvt_err kvi_lane_get_common(struct kvi_lane *lane, struct kvi_common *common);

/*
 * Severs the lane: after it returns, no byte of this lane is read from or written to our memory any
 * more, by either side. Its outstanding ops are reported by kvi_cq_poll() with KVT_E_CANCELLED, no
 * event names it again.
 */
void kvi_lane_close(struct kvi_lane *lane);

/*
 * Posts. Memory (may be NULL where caps.local_memory is false) is the registration that holds the
 * local buffer. Return KVT_OK; KVT_E_AGAIN: nothing was posted, poll and try again; else the lane is
 * broken. The buffer belongs to the fabric until the op is reported.
 */
enum kvt_err kvi_lane_post_recv(struct kvi_lane *lane, struct kvi_op *op, void *buffer, size_t len,
				struct kvi_memory *memory);
/*
 * When a send that is done is reported. KVI_UNSIGNALLED spares the provider a completion, where it costs one much: the op
 * may be reported only when an op that was posted later on its lane, and is KVI_SIGNALLED or RMA, has succeeded, or when
 * the lane is closed or lost. So a caller who waits for his buffers posts one of those from time to time.
 */
enum kvi_signal {
	KVI_SIGNALLED,
	KVI_UNSIGNALLED,
};

enum kvt_err kvi_lane_post_send(struct kvi_lane *lane, struct kvi_op *op, const void *buffer,
				size_t len, struct kvi_memory *memory, enum kvi_signal signal);
/*
 * Send at most caps.inject_len bytes, which are copied before the return: no op, no completion; a
 * failure later loses the lane. KVT_E_AGAIN as above.
 */
enum kvt_err kvi_lane_inject(struct kvi_lane *lane, const void *buffer, size_t len);

/* A range of local memory, and the range of the peer's that it is written to or read from. */
struct kvi_span {
	void *base;
	size_t len;
	struct kvi_memory *memory; /* as above, of base */
	struct kvi_rkey remote;
};

enum kvi_delivery {
	KVI_DELIVERED, /* success means that the bytes are in the peer's memory */
	KVI_POSTED, /* that our memory is not read any more; the lane keeps the order of what it carries */
};

/* Write or read 1 to caps.span_count spans, caps.max_segment_len bytes in all, as one operation. */
enum kvt_err kvi_lane_post_write(struct kvi_lane *lane, struct kvi_op *op,
				 const struct kvi_span *spans, size_t count,
				 enum kvi_delivery delivery);
enum kvt_err kvi_lane_post_read(struct kvi_lane *lane, struct kvi_op *op,
				const struct kvi_span *spans, size_t count);

#endif
