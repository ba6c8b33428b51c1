/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the objects behind fabric.h, shared by the files of this directory only.
 */
#ifndef KVI_FABRIC_INTERNAL_H
#define KVI_FABRIC_INTERNAL_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "base/hash.h"
#include "base/list.h"
#include "fabric/interface.h"
#include "fabric/profile.h"
#include "fabric/table.h"

struct kvi_setting; /* survey.h */
struct hwloc_topology;

struct kvi_domain {
	struct kvi_ofi_rail *rail;
	struct fid_domain *fid;
	unsigned users; /* under rail->mutex when shared */
	bool mr_cached; /* registrations share keys: none may be open to a peer */
};

struct kvi_ofi_rail {
	struct kvi_rail base;

	/* immutable after open */
	const struct kvi_profile *profile;
	struct kvi_interface interface;
	struct fi_info *info;
	struct fid_fabric *fid;
	bool cuts_reads; /* an endpoint may be closed with a read half in */
	pthread_mutex_t mutex;
	/* under mutex */
	struct kvi_domain *shared_domain; /* NULL while no cq is open, and with own_domains */
	struct hwloc_topology
		*topology; /* near.c; NULL while nobody asked. Not changed once it is there */
};

/*
 * What the provider is given as the context of an operation. It outlives the op, and the lane,
 * because a provider may report an operation after its endpoint was closed.
 *
 * POSTED     in a list of its lane's; the provider will report it, or, where it is unsignalled, one behind it
 * DONE       in cq->done; to be reported by kvi_cq_poll()
 * FREE       in cq->free
 * QUARANTINE in cq->quarantine; the lane was closed and the provider never gave it back
 */
enum kvi_context_state {
	KVI_CONTEXT_FREE,
	KVI_CONTEXT_POSTED,
	KVI_CONTEXT_DONE,
	KVI_CONTEXT_QUARANTINE,
};

struct kvi_context {
	struct fi_context2 provider; /* the provider's to write; first, op_context points here */
	struct kvi_list node;
	struct kvi_ofi_lane *lane;	  /* valid while POSTED */
	struct kvi_completion completion; /* its op is the caller's */
	enum kvi_context_state state;
	uint64_t number; /* among what its lane has sent, written and read */
	bool is_recv;
	bool is_read;
	bool is_unsignalled;
	bool is_held; /* by the provider, as far as we know */
	int64_t held_until_ns;
};

struct kvi_ofi_cq {
	struct kvi_cq base;
	struct kvi_ofi_rail *rail;
	struct kvi_domain *domain;
	struct kvi_list queues;
	struct kvi_list awake; /* the next to read first */
	unsigned queue_count;
	unsigned awake_count;
	int epoll_fd; /* of the queues' descriptors */
	struct fid_eq *eq;
	int eq_fd;
	bool is_forgotten;
	bool eq_armed; /* fi_trywait() found the event queue empty, and nobody has read it since */
	struct kvi_ofi_lane *lanes;  /* by fid */
	struct kvi_list event_lanes; /* with an event to report */
	struct kvi_list done;
	struct kvi_list free;
	struct kvi_list quarantine; /* oldest first */
	struct kvi_list slabs;
};

/* A completion queue of the provider, for some of a cq's lanes. */
struct kvi_queue {
	struct kvi_list node;	    /* in cq->queues */
	struct kvi_list awake_node; /* in cq->awake; in no list while asleep */
	struct kvi_ofi_cq *cq;
	struct fid_cq *fid;
	int fd;
	size_t lanes_max;
	size_t lane_count;
	unsigned vain;	    /* reads in a row that gave nothing */
	unsigned polls;	    /* since somebody was about to sleep */
	int pair_fd;	    /* that wakes it; -1: there is none, or nobody knows */
	uint64_t pair_data; /* what the provider watches it with */
	bool is_muted;
	bool is_broken; /* it failed itself; logged once */
};

enum kvi_lane_state {
	KVI_LANE_STATE_OPEN,
	KVI_LANE_STATE_CONNECTED,
	KVI_LANE_STATE_LOST,
};

struct kvi_ofi_lane {
	struct kvi_lane base;
	UT_hash_handle hh; /* in cq->lanes, until severed */
	struct kvi_list event_node;
	struct kvi_list posted;
	struct kvi_list unsignalled; /* sends that the provider tells of when they fail only */
	uint64_t last_number;
	struct kvi_ofi_cq *cq;
	struct kvi_queue *queue;
	struct fid_ep *ep; /* NULL once severed */
	struct fid *fid;   /* the provider's name of it, in events */
	void *context;
	size_t tx_posted;
	size_t rx_posted;
	size_t reads_posted; /* of tx_posted */
	enum kvi_lane_state state;
	bool is_closing;
	bool is_left;		/* severed, but the provider still has it */
	bool connected_pending; /* events to report, in this order */
	bool lost_pending;
	int lost_errno;
	int fault_errno; /* an op failed by our own fault: nothing that comes later is right */
	size_t own_len;	 /* of own; 0: not connected yet */
	uint8_t own[KVI_ADDRESS_LEN_MAX];
	bool answers; /* a request: accept instead of connect */
	uint8_t peer[KVI_ADDRESS_LEN_MAX];
};

struct kvi_ofi_memory {
	struct kvi_memory base;
	struct fid_mr *fid;
};

/*
 * A connect request over a byte stream: a provider's header and data. With profile->strays every lane pads its
 * data to all that the provider takes: so all requests are of one length, and the provider is told of a socket
 * when that is there. The last byte is the length of what was padded.
 */
enum { KVI_CM_HEADER_LEN = 32, KVI_CM_DATA_LEN = 256, KVI_STRAYS_MAX = 256 };

/* strays.c: connections of a listener that have not said all of their request. */
struct kvi_strays {
	int epoll_fd;		 /* through which the provider waits for them; -1: nobody knows */
	int fds[KVI_STRAYS_MAX]; /* that were there at the last look */
	unsigned count;
	unsigned skipped;		  /* looks since, when there were many */
	uint64_t old[KVI_STRAYS_MAX / 2]; /* cookies of those that go when there are too many */
	unsigned old_count;
};

/* Requests keep their listener: rejecting one needs it. */
struct kvi_ofi_listener {
	struct kvi_listener base;
	struct kvi_ofi_rail *rail;
	struct fid_pep *pep;
	struct fid_eq *eq;
	struct kvi_strays strays;
	bool is_watching; /* fd is an epoll, through which the provider waits for its sockets */
	bool may_forget; /* a system call of the provider's has failed: it may have left a socket open */
	atomic_uint users;
};

struct kvi_ofi_lane_request {
	struct kvi_lane_request base;
	struct kvi_ofi_listener *listener;
	struct fi_info *info;
	bool is_used; /* an endpoint took its handle: there is nothing to reject any more */
};

/* What the engine holds is the beginning of ours. */
static inline struct kvi_ofi_rail *kvi_ofi_rail(const struct kvi_rail *base)
{
	return kvi_container_of(base, struct kvi_ofi_rail, base);
}

static inline struct kvi_ofi_cq *kvi_ofi_cq(const struct kvi_cq *base)
{
	return kvi_container_of(base, struct kvi_ofi_cq, base);
}

static inline struct kvi_ofi_memory *kvi_ofi_memory(const struct kvi_memory *base)
{
	return kvi_container_of(base, struct kvi_ofi_memory, base);
}

static inline struct kvi_ofi_listener *kvi_ofi_listener(const struct kvi_listener *base)
{
	return kvi_container_of(base, struct kvi_ofi_listener, base);
}

static inline struct kvi_ofi_lane_request *kvi_ofi_lane_request(const struct kvi_lane_request *base)
{
	return kvi_container_of(base, struct kvi_ofi_lane_request, base);
}

static inline struct kvi_ofi_lane *kvi_ofi_lane(const struct kvi_lane *base)
{
	return kvi_container_of(base, struct kvi_ofi_lane, base);
}

/* environment.c: the n-th setting, where what is set as an engine wants it is none; false beyond the
 * last. And the names and values of those with such an effect, behind the text of error. */
bool kvi_environment_get(size_t n, struct kvi_setting *setting);
void kvi_environment_blame(struct kvt_error *error, enum kvi_effect effect);

/* The operations of the table, in the file of their noun. */
enum kvt_err kvi_ofi_rail_open(const char *interface, const char *provider, struct kvi_rail **rail,
			       struct kvt_error *error);
void kvi_ofi_rail_close(struct kvi_rail *base);
size_t kvi_ofi_rail_get_near_cpus(struct kvi_rail *base, unsigned *cpus, size_t max);
void kvi_ofi_rail_bind_near(struct kvi_rail *rail_base, void *base, size_t len);
enum kvt_err kvi_ofi_cq_open(struct kvi_rail *base, struct kvi_cq **cq, struct kvt_error *error);
void kvi_ofi_cq_close(struct kvi_cq *base);
void kvi_ofi_cq_forget(struct kvi_cq *base);
size_t kvi_ofi_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max);
size_t kvi_ofi_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max);
void kvi_ofi_cq_get_fds(const struct kvi_cq *base, int fds[2]);
bool kvi_ofi_cq_may_sleep(struct kvi_cq *base);
enum kvt_err kvi_ofi_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
				 uint64_t key, struct kvi_memory **memory, struct kvt_error *error);
void kvi_ofi_memory_close(struct kvi_memory *base);
enum kvt_err kvi_ofi_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				   struct kvi_listener **listener, struct kvt_error *error);
void kvi_ofi_listener_close(struct kvi_listener *base);
struct kvi_lane_request *kvi_ofi_listener_take(struct kvi_listener *base);
void kvi_ofi_lane_request_reject(struct kvi_lane_request *base);
enum kvt_err kvi_ofi_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
			       struct kvi_lane_request *request_base, void *context,
			       struct kvi_lane **lane, struct kvt_error *error);
enum kvt_err kvi_ofi_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
				  struct kvt_error *error);
void kvi_ofi_lane_close(struct kvi_lane *base);
void kvi_ofi_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow);
uint64_t kvi_ofi_flow_get_moved(const struct kvi_flow *flow);
enum kvt_err kvi_ofi_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer,
				    size_t len, struct kvi_memory *memory);
enum kvt_err kvi_ofi_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				    size_t len, struct kvi_memory *memory, enum kvi_signal signal);
enum kvt_err kvi_ofi_lane_inject(struct kvi_lane *base, const void *buffer, size_t len);
enum kvt_err kvi_ofi_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				     const struct kvi_span *spans, size_t count,
				     enum kvi_delivery delivery);
enum kvt_err kvi_ofi_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				    const struct kvi_span *spans, size_t count);

/* rail.c: what must stand before the first call of fi_getinfo() in the process. */
void kvi_fabric_prepare(void);

/* rail.c: fill error from a libfabric return value; what: the call that failed. */
enum kvt_err kvi_fabric_fail(struct kvt_error *error, long ret, const char *what);

/* memory.c: the same, where RLIMIT_MEMLOCK may be why. len: what was to be pinned; 0: unknown. */
enum kvt_err kvi_fabric_fail_pinned(const struct kvi_ofi_rail *rail, size_t len, long ret,
				    const char *what, struct kvt_error *error);

/* near.c; the rail is being closed. */
void kvi_rail_forget_topology(struct kvi_ofi_rail *rail);

/* domain.c */
enum kvt_err kvi_domain_get(struct kvi_ofi_rail *rail, struct kvi_domain **domain,
			    struct kvt_error *error);
void kvi_domain_put(struct kvi_domain *domain);

/* context.c */
struct kvi_context *kvi_context_take(struct kvi_ofi_cq *cq); /* NULL: out of memory */
void kvi_context_give(struct kvi_ofi_cq *cq, struct kvi_context *context);
/* Sends posted before this op are done when it is, as the lane keeps their order. */
void kvi_context_finish_earlier(struct kvi_ofi_cq *cq, const struct kvi_context *context);
/* Hand a posted op to kvi_cq_poll(), which reports it once. */
void kvi_context_finish(struct kvi_ofi_cq *cq, struct kvi_context *context, enum kvt_err err,
			int provider_errno, size_t len, bool is_held);
size_t kvi_context_report(struct kvi_ofi_cq *cq, struct kvi_completion *completions, size_t max);
void kvi_context_free_all(struct kvi_ofi_cq *cq);

/* queue.c */
enum kvt_err kvi_queue_open(struct kvi_ofi_cq *cq, struct kvi_queue **queue,
			    struct kvt_error *error);
void kvi_queue_close(struct kvi_queue *queue);
/* A place for a lane, which it leaves when its endpoint is closed. */
enum kvt_err kvi_queue_join(struct kvi_ofi_cq *cq, struct kvi_queue **queue,
			    struct kvt_error *error);
void kvi_queue_leave(struct kvi_queue *queue);
/* Have it read by the next poll: its descriptor may not tell, as something was posted or read. */
void kvi_queue_wake(struct kvi_queue *queue);
/* Wake those whose descriptors tell of work. */
void kvi_queues_look(struct kvi_ofi_cq *cq);
/* Read one batch into cq->done; false when there is nothing more. */
bool kvi_queue_read(struct kvi_queue *queue, size_t max);
void kvi_queue_drain(struct kvi_queue *queue);
/* True when it is asleep now. */
bool kvi_queue_may_sleep(struct kvi_queue *queue);

/* Whether its cq's descriptor tells of it. False: it failed, with errno. */
bool kvi_queue_watch(struct kvi_queue *queue);
bool kvi_queue_unwatch(struct kvi_queue *queue);

/* mute.c: the queue is new, and has no lanes; it is polled; somebody is about to sleep on it. False: he may not. */
void kvi_mute_open(struct kvi_queue *queue);
void kvi_mute_count(struct kvi_queue *queue);
bool kvi_mute_end(struct kvi_queue *queue);

/* cq.c: take everything out of the provider's event queue into lane events. */
void kvi_cq_drain_events(struct kvi_ofi_cq *cq);
enum kvt_err kvi_err_from_errno(int provider_errno);

/* cq.c: events that kvi_cq_poll_events() reports, each at most once in a lane's life. */
void kvi_lane_note_connected(struct kvi_ofi_lane *lane);
void kvi_lane_note_lost(struct kvi_ofi_lane *lane, int provider_errno);

/* lane.c: close the endpoint; what was outstanding on it goes to cq->done, with err where the
 * provider does not say. */
void kvi_lane_cut(struct kvi_ofi_lane *lane, enum kvt_err err);

/* listen.c */
void kvi_lane_request_free(struct kvi_ofi_lane_request *request);

/*
 * socket.c, for the listening socket of this address: bound how long a half-sent message can stall, and with whole_len
 * let nobody hear of an accepted socket before so many bytes are there (1: any); end the
 * connections it accepted that are still on blocking sockets; close them. queue_fd: the event queue's epoll,
 * for those that it watches; -1: for all of the process. They tell whether there was one.
 */
bool kvi_socket_bound_listener(int queue_fd, const uint8_t *address, size_t len, int whole_len);
bool kvi_socket_end_strays(int queue_fd, const uint8_t *address, size_t len);
bool kvi_socket_close_strays(int queue_fd, const uint8_t *address, size_t len);
/* And, with queue_fd as above: have the provider, which hears of callers from that epoll, accept no more of them. */
void kvi_socket_stop_accepting(int queue_fd, int epoll_fd, const uint8_t *address, size_t len);

/* socket.c: the epoll, queue_fd or one in it, that watches the listening socket of this address; -1: none does.
 * And up to max of the sockets in an epoll that were accepted there. */
int kvi_socket_find_epoll(int queue_fd, const uint8_t *address, size_t len);
unsigned kvi_socket_list_accepted(int epoll_fd, const uint8_t *address, size_t len, int *fds,
				  unsigned max);

/* strays.c: watch over a listener that listens; before the provider looks at its sockets: which are there, and if
 * they are too many, end some. */
void kvi_strays_open(struct kvi_ofi_listener *listener);
void kvi_strays_look(struct kvi_ofi_listener *listener);

/* socket.c: this process's descriptor of the connection between two addresses, of those that queue_fd or an epoll in it
 * watches; of all, where it is not among them. -1: there is none. */
int kvi_socket_find(int queue_fd, const uint8_t *own, const uint8_t *peer, size_t len);
/* socket.c: the one descriptor that an epoll watches, and what it is watched with. False: not one, or nobody knows. */
bool kvi_socket_find_only(int epoll_fd, int *fd, uint64_t *data);

#endif
