/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.h - the fabric between processes of one host, shared by the files of this directory only.
 *
 * A lane is a pair of rings (ring.h) and a UNIX socket, by which the rings' memory was handed over, which wakes a
 * side that sleeps, and which tells at once of the other's death. Only the owner of memory writes it. A write says
 * where its bytes are: the peer looks for the key among its registrations, and copies them (pull.c). A read asks
 * whether it may, and then copies. Where a process may not read the other's memory, the bytes come in the ring.
 *
 * What comes in a ring is looked at by take.c alone.
 */
#ifndef KVI_FABRIC_LOCAL_LOCAL_H
#define KVI_FABRIC_LOCAL_LOCAL_H

#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/hash.h"
#include "base/list.h"
#include "fabric/interface.h"
#include "fabric/local/ring.h"
#include "fabric/table.h"

enum {
	KVI_LOCAL_TX_COUNT = 256,
	KVI_LOCAL_RX_COUNT = 128,
	KVI_LOCAL_INJECT_LEN = 16 * 1024,
	KVI_LOCAL_SEGMENT_LEN = 1 << 30,
	KVI_LOCAL_CHUNK_LEN = 256 * 1024, /* copied in one go: who closes a lane waits for it */
	KVI_LOCAL_ALONG_LEN =
		256, /* bytes of an operation that come with its record where they can be copied at once */
};

/* Memory of ours that peers may map. */
struct kvi_local_share {
	uint8_t *base;
	size_t len;
	int fd;
	struct kvi_file_id file; /* that fd was */
	uint64_t id;		 /* never used again */
};

/* Memory of a peer's, mapped read-only, once for all lanes. */
struct kvi_local_map {
	UT_hash_handle hh;
	struct kvi_file_id file; /* with len, the hash's key */
	size_t len;		 /* of the file's beginning, that was offered */
	unsigned users;
	int fd;
	const uint8_t *bytes;
};

struct kvi_local_rail {
	struct kvi_rail base;
	struct kvi_interface interface; /* immutable after open */

	pthread_rwlock_t shares_lock;
	/* under shares_lock */
	struct kvi_local_share *shares; /* by base */
	size_t share_count;
	size_t share_room;
	uint64_t last_share;
	uint64_t unshare_count;

	pthread_mutex_t maps_lock;
	/* under maps_lock */
	struct kvi_local_map *maps; /* at most KVI_LOCAL_MAPS_MAX */
	uint64_t mapped_len;	    /* of all */
};

struct kvi_local_cq {
	struct kvi_cq base;
	struct kvi_local_rail *rail;
	int epoll_fd;	     /* the sockets of connected lanes */
	int events_epoll_fd; /* those of lanes that connect, and event_fd */
	int event_fd;	     /* readable while event_lanes is not empty */
	bool is_forgotten;
	bool must_look; /* at epoll_fd, in the next poll */
	bool sleeps; /* somebody may, on the fds: no poll came since kvi_cq_may_sleep() allowed it */
	unsigned turns;
	pid_t vain_pid; /* that a close has waited for in vain (pull.c) */
	int64_t vain_until_ns;
	struct kvi_local_lane *lanes; /* by address, until closed */
	struct kvi_list awake;	      /* lanes that each poll looks at; the next first */
	unsigned awake_count;
	struct kvi_list event_lanes; /* with an event to report */
	struct kvi_list done;	     /* ops to report */
	struct kvi_list free;	     /* ops */

	pthread_mutex_t memory_lock;	   /* held while an operation of a peer's copies, too */
	struct kvi_local_memory *memories; /* by key, those open to peers; under memory_lock */
};

struct kvi_local_memory {
	struct kvi_memory base;
	UT_hash_handle hh;
	struct kvi_local_cq *cq;
	uint8_t *bytes;
	size_t len;
	unsigned access;
	bool is_open; /* in cq->memories */
};

/* What a record is, and the operation that made it. */
enum kvi_record_kind {
	KVI_RECORD_SEND = 1,   /* a message: its bytes follow */
	KVI_RECORD_WRITE,      /* its bytes follow */
	KVI_RECORD_WRITE_PULL, /* its bytes are in the writer's memory */
	KVI_RECORD_WRITE_MAP,  /* the same, in memory that the taker has mapped */
	KVI_RECORD_READ,       /* answered by one of the next three, in order */
	KVI_RECORD_GRANT_PULL, /* the bytes are in the owner's memory */
	KVI_RECORD_GRANT_MAP,  /* the same, in memory that the reader has mapped */
	KVI_RECORD_ANSWER,     /* the bytes follow */
	KVI_RECORD_RECEIVE,    /* not in a ring: a posted receive */
};

struct kvi_record {
	uint32_t kind;
	uint32_t count; /* of spans, which follow */
	uint64_t len;	/* of the bytes, of all spans; padded to KVI_RECORD_ALIGN in the ring */
};

struct kvi_record_span {
	uint64_t address;
	uint64_t key;
	uint64_t len;
	uint64_t source; /* _PULL: where the bytes are; _MAP: the slot, and where they are in its memory */
};

enum {
	KVI_RECORD_ALIGN = 8,
	KVI_LOCAL_SLOTS = 64, /* what a lane's peer has mapped: as many memories */
	KVI_LOCAL_MAPS_MAX =
		256,		 /* what a rail has mapped of all peers'; each takes a descriptor */
	KVI_LOCAL_SLOT_BIT = 48, /* of a source: from here on it is the slot */
};

static inline uint64_t kvi_record_pad(uint64_t len)
{
	return (len + KVI_RECORD_ALIGN - 1) / KVI_RECORD_ALIGN * KVI_RECORD_ALIGN;
}

/* A part of our memory, and where the bytes for it are. */
struct kvi_local_piece {
	void *to;
	size_t len;
	uint64_t source; /* as in a record */
};

/* A posted operation; or, with no op of the caller's, the answer to a read of the peer's. */
struct kvi_local_op {
	struct kvi_list node;
	struct kvi_local_lane *lane;
	struct kvi_completion completion;
	enum kvi_record_kind kind;
	bool is_begun; /* its record is in the ring, but for bytes */
	unsigned count;
	size_t len;
	size_t moved; /* of the bytes, or of the padding behind them */
	struct kvi_span spans[KVI_SPANS_MAX];
	uint64_t sources[KVI_SPANS_MAX]; /* as in a record */
	bool is_mapped;			 /* of a read that was granted */
};

/* A record of the peer's that is being taken. */
struct kvi_local_incoming {
	bool is_begun;
	struct kvi_record record;
	struct kvi_record_span spans[KVI_SPANS_MAX];
	size_t moved;
};

enum kvi_local_state {
	KVI_LOCAL_NEW,
	KVI_LOCAL_CONNECTING,
	KVI_LOCAL_CONNECTED,
	KVI_LOCAL_LOST,
};

struct kvi_local_lane {
	struct kvi_lane base;
	UT_hash_handle hh;
	struct kvi_local_lane *self; /* the hash's key */
	struct kvi_list awake_node;
	struct kvi_list event_node;
	struct kvi_local_cq *cq;
	void *context;
	int socket;
	struct kvi_file_id socket_file; /* that socket was */
	pid_t pid;			/* of the peer; 0: in another pid namespace */
	struct kvi_ring ring;
	enum kvi_local_state state;
	bool answers;
	bool is_hung;	     /* the socket has ended: what is in the ring is the last */
	bool pulls;	     /* we can read the peer's memory */
	bool waits_for_room; /* a post found none */
	bool connected_pending;
	bool lost_pending;
	int lost_errno;
	unsigned vain; /* polls in a row that found nothing */
	uint64_t probe;
	uint64_t peer_probe; /* what is at this address of the peer's, as long as it is the peer */
	uintptr_t peer_probe_address;
	size_t address_len;
	uint8_t address[KVI_ADDRESS_LEN_MAX];

	unsigned tx_posted;
	unsigned rx_posted;
	unsigned answer_count;
	struct kvi_list unput;	 /* ops whose records are not wholly in the ring */
	struct kvi_list awaited; /* writes that the peer has not counted as done */
	struct kvi_list asked;	 /* reads that the peer has not answered */
	struct kvi_list granted; /* reads that we may copy */
	struct kvi_list receives;
	uint64_t awaited_count;
	uint64_t done_seen; /* of the peer's */
	struct kvi_local_incoming incoming;

	struct kvi_local_slot {
		uint64_t share;	 /* 0: none */
		uint32_t number; /* the peer has it once it has taken so many offers */
	} slots[KVI_LOCAL_SLOTS];
	unsigned last_slot; /* that was used */
	uint64_t full_at;   /* 1 + the rail's unshare_count when no slot was free; 0: one was */
	uint32_t offer_count;
	uint32_t map_count;			     /* of the peer's offers, taken */
	bool maps_no_more;			     /* one could not be: bytes come another way */
	struct kvi_local_map *maps[KVI_LOCAL_SLOTS]; /* of the peer's memory */
};

/* Between lanes that are connected: memory to be mapped, with its descriptor. What is shorter is a wake. */
struct kvi_local_offer {
	uint64_t slot;
	uint64_t len;
};

/* What the names of listeners begin with: a peer may name us no other sockets to call. */
#define KVI_LOCAL_NAME "kvtrans-"

enum { KVI_LOCAL_HELLO_MAGIC = 0x314c564b }; /* "KVL1" */

/* What a caller sends to a listener, with the descriptor of its ring. The answer is a byte. */
struct kvi_local_hello {
	uint32_t magic;
	uint32_t ring_len;
	uint32_t len; /* of data */
	uint8_t data[KVI_LANE_DATA_LEN_MAX];
};

struct kvi_local_listener {
	struct kvi_listener base; /* its fd is an epoll of the socket and of callers */
	struct kvi_local_rail *rail;
	int socket;
	struct kvi_list callers; /* that have said nothing yet, oldest first */
	unsigned caller_count;
};

struct kvi_local_request {
	struct kvi_lane_request base;
	int socket;
	pid_t pid;
	struct kvi_ring ring;
};

static inline struct kvi_local_rail *kvi_local_rail(const struct kvi_rail *base)
{
	return kvi_container_of(base, struct kvi_local_rail, base);
}

static inline struct kvi_local_cq *kvi_local_cq(const struct kvi_cq *base)
{
	return kvi_container_of(base, struct kvi_local_cq, base);
}

static inline struct kvi_local_memory *kvi_local_memory(const struct kvi_memory *base)
{
	return kvi_container_of(base, struct kvi_local_memory, base);
}

static inline struct kvi_local_listener *kvi_local_listener(const struct kvi_listener *base)
{
	return kvi_container_of(base, struct kvi_local_listener, base);
}

static inline struct kvi_local_request *kvi_local_request(const struct kvi_lane_request *base)
{
	return kvi_container_of(base, struct kvi_local_request, base);
}

static inline struct kvi_local_lane *kvi_local_lane(const struct kvi_lane *base)
{
	return kvi_container_of(base, struct kvi_local_lane, base);
}

/* The operations of the table, in the file of their noun. */
enum kvt_err kvi_local_rail_open(const char *interface, const char *provider,
				 struct kvi_rail **rail, struct kvt_error *error);
void kvi_local_rail_close(struct kvi_rail *base);
size_t kvi_local_rail_get_near_cpus(struct kvi_rail *base, unsigned *cpus, size_t max);
void kvi_local_rail_bind_near(struct kvi_rail *rail_base, void *base, size_t len);
enum kvt_err kvi_local_rail_share(struct kvi_rail *rail_base, void *base, size_t len, int fd);
void kvi_local_rail_unshare(struct kvi_rail *rail_base, void *base);
enum kvt_err kvi_local_cq_open(struct kvi_rail *base, struct kvi_cq **cq, struct kvt_error *error);
void kvi_local_cq_close(struct kvi_cq *base);
void kvi_local_cq_forget(struct kvi_cq *base);
size_t kvi_local_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max);
size_t kvi_local_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max);
void kvi_local_cq_get_fds(const struct kvi_cq *base, int fds[2]);
bool kvi_local_cq_may_sleep(struct kvi_cq *base);
enum kvt_err kvi_local_memory_open(struct kvi_cq *cq_base, void *base, size_t len, unsigned access,
				   uint64_t key, struct kvi_memory **memory,
				   struct kvt_error *error);
void kvi_local_memory_close(struct kvi_memory *base);
enum kvt_err kvi_local_listener_open(struct kvi_rail *base, struct kvi_ports ports,
				     struct kvi_listener **listener, struct kvt_error *error);
void kvi_local_listener_close(struct kvi_listener *base);
struct kvi_lane_request *kvi_local_listener_take(struct kvi_listener *base);
void kvi_local_lane_request_reject(struct kvi_lane_request *base);
enum kvt_err kvi_local_lane_open(struct kvi_cq *cq_base, const uint8_t *address, size_t address_len,
				 struct kvi_lane_request *request_base, void *context,
				 struct kvi_lane **lane, struct kvt_error *error);
enum kvt_err kvi_local_lane_connect(struct kvi_lane *base, const uint8_t *data, size_t len,
				    struct kvt_error *error);
void kvi_local_lane_close(struct kvi_lane *base);
void kvi_local_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow);
uint64_t kvi_local_flow_get_moved(const struct kvi_flow *flow);
enum kvt_err kvi_local_lane_get_common(struct kvi_lane *base, struct kvi_common *common);
enum kvt_err kvi_local_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer,
				      size_t len, struct kvi_memory *memory);
enum kvt_err kvi_local_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				      size_t len, struct kvi_memory *memory,
				      enum kvi_signal signal);
enum kvt_err kvi_local_lane_inject(struct kvi_lane *base, const void *buffer, size_t len);
enum kvt_err kvi_local_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				       const struct kvi_span *spans, size_t count,
				       enum kvi_delivery delivery);
enum kvt_err kvi_local_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				      const struct kvi_span *spans, size_t count);

/* cq.c */
struct kvi_local_op *kvi_local_op_take(struct kvi_local_cq *cq); /* NULL: out of memory */
void kvi_local_op_give(struct kvi_local_cq *cq, struct kvi_local_op *op);
/* Hand it to kvi_cq_poll(), which reports it once; an answer is freed. */
void kvi_local_op_finish(struct kvi_local_op *op, enum kvt_err err, int provider_errno);
/* What is at op->moved: a part of one of its spans, and of its source. */
struct kvi_local_piece kvi_local_op_get_piece(const struct kvi_local_op *op);
/* Have each poll look at it, until it falls asleep; or its peer wake who sleeps on the cq. */
void kvi_local_lane_wake(struct kvi_local_lane *lane);
/* Have kvi_cq_poll_events() report what is pending. */
void kvi_local_lane_tell(struct kvi_local_lane *lane);

/* memory.c: the bytes that a peer may use so; NULL: it may not. Under cq->memory_lock, and as long as that is held. */
uint8_t *kvi_local_memory_find(struct kvi_local_cq *cq, const struct kvi_record_span *span,
			       unsigned access);

/* share.c */
void kvi_local_shares_init(struct kvi_local_rail *rail);
void kvi_local_shares_destroy(struct kvi_local_rail *rail);
/* Whether all of it is memory that was shared, and so cannot vanish. */
bool kvi_local_is_shared(struct kvi_local_rail *rail, const void *base, size_t len);
/* Whether it comes with its record: the bytes are few, and fetching them from where they are would take the peer longer. */
bool kvi_local_goes_along(const struct kvi_local_lane *lane, const struct kvi_span *spans,
			  size_t count, size_t len);
/* Say where the peer finds it in what it has mapped of ours; offer it, where that is new. False: it has not. */
bool kvi_local_point_out(struct kvi_local_lane *lane, const void *base, size_t len,
			 uint64_t *source);

/* map.c */
/* The peer has offered memory. An errno: EPROTO: it was none; ENOMEM: it is too much, and the peer is to copy it in
 * another way. Owns fd in any case. */
int kvi_local_take_offer(struct kvi_local_lane *lane, const struct kvi_local_offer *offer, int fd);
void kvi_local_drop_maps(struct kvi_local_lane *lane);
/* Where a source of the peer's is, and the memory it is in; NULL: nowhere. */
const uint8_t *kvi_local_find_mapped(const struct kvi_local_lane *lane, uint64_t source, size_t len,
				     const struct kvi_local_map **map);

/* listen.c: a message that may bring a descriptor (-1: none); returns its length, or what recvmsg(2) does. */
ssize_t kvi_local_receive(int socket, void *bytes, size_t len, int *fd);
/* listen.c: the same the other way. */
ssize_t kvi_local_send(int socket, const void *bytes, size_t len, int fd);
/* listen.c: whether the other end belongs to our user; its process. */
bool kvi_local_check_peer(int socket, pid_t *pid);

/* lane.c */
/* One round of progress. True when something happened. */
bool kvi_local_lane_progress(struct kvi_local_lane *lane);
/* Let the peer wake us from now on. False: there is something to do. */
bool kvi_local_lane_fall_asleep(struct kvi_local_lane *lane);
/* Its socket tells of something. */
void kvi_local_lane_on_socket(struct kvi_local_lane *lane, uint32_t epoll_events);
/* Whether its socket is still its own. */
bool kvi_local_lane_has_socket(const struct kvi_local_lane *lane);
void kvi_local_lane_lose(struct kvi_local_lane *lane, enum kvt_err err, int provider_errno);

/* put.c: put what waits into the ring, as far as there is room. True when something was put. */
bool kvi_local_put(struct kvi_local_lane *lane);
/* Whether it could put something. */
bool kvi_local_can_put(struct kvi_local_lane *lane);
/* A message, at once or not at all. */
bool kvi_local_put_now(struct kvi_local_lane *lane, const void *bytes, size_t len);
/* Wake the peer if it sleeps and wants this (KVI_WAKE_*); what it is for was published before. */
void kvi_local_wake_peer(struct kvi_local_lane *lane, uint32_t what);

/* take.c: take what the peer has put. True when something was taken. */
bool kvi_local_take(struct kvi_local_lane *lane);
/* Whether it could take something. */
bool kvi_local_can_take(struct kvi_local_lane *lane);

/* pull.c */
/* See whether we can read the peer's memory, and tell it. */
void kvi_local_probe(struct kvi_local_lane *lane);
/* Copy from the peer's memory into ours, at most KVI_SPANS_MAX pieces: 0 or an errno. ECANCELED: the peer has closed
 * the lane. EFAULT is what is not there of our own memory; of the peer's: EIO, and it is told. EPROTO: a source is in
 * nothing that we have mapped. */
int kvi_local_pull(struct kvi_local_lane *lane, const struct kvi_local_piece *pieces, size_t count,
		   bool is_mapped);
/* Our memory is not read any more by the peer when it returns. */
void kvi_local_shut(struct kvi_local_lane *lane);

#endif
