/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans.h - the whole public API of libkvtrans, with the two headers that it includes.
 *
 * Handles (engine, connection, KV) are opened and closed. A transfer is one operation: it is started,
 * completes exactly once, and is freed. Every function may be called from any thread; a handle must not
 * be used after its close returned, nor closed twice. Functions that can fail return 0 (KVT_OK) or a
 * negative enum kvt_err, and write their out-parameters only on success. Those that take a struct
 * kvt_error * (which may be NULL) fill it with the cause when they fail.
 *
 * Once a call has returned an error, or a transfer has completed with one, nobody (peer, NIC or thread)
 * reads or writes its buffer any more. It ends by its deadline, or the loss of the peer, and the time that
 * this takes: at once on most links, on a slow one when what was posted has drained, and when nothing has
 * moved for 1 s, or after 20 s, by severing the connection. "Soon" below means that.
 *
 * Until then memory is lent, and must stay mapped: a KV's, a pool's, a transfer's. The library copies small
 * blocks and messages itself, and so does libfabric with the beginnings of what it receives: where a mapping is
 * gone, or its file truncated, the process gets SIGBUS or SIGSEGV, as with any access of its own. Where the
 * system meets it first (EFAULT), the transfer and its connection end with KVT_E_FABRIC and that errno, and the
 * peer gets KVT_E_PEER_LOST. What libfabric does not tell is memory that goes while the peer writes or reads it:
 * then both lose the connection, and a peer that reads may get other bytes.
 *
 * Units: len is bytes, count is elements, *_ns is nanoseconds.
 */
#ifndef KVTRANS_H
#define KVTRANS_H

#include <kvtrans_base.h>
#include <kvtrans_paged.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- engine ---- */

/*
 * Configuration of an engine. Zero (NULL) means the default everywhere. Copied by kvt_engine_open().
 *
 * interfaces      names ("eth0", "lo", "mlx5_0"), IP addresses of this host (link-local ones with their
 *                 interface, "fe80::1%eth0") or "localhost", one rail each; at least one
 * provider        libfabric provider, or "local" (one host); default: the best one that serves the interfaces, and beside
 *                 it "local" for peers of this host, unless KVTRANS_LOCAL=0 is in the environment
 * ncpus           workers, 1 to 256; default: half the CPUs, 1 to 4
 * nconn_per_cpu   lanes per worker and connection; ncpus x nconn_per_cpu is at most 1,024; default 1
 * listen_port     TCP port of the control listener; 0 takes a free one
 * eager_len       largest message that is sent before the receiver asks for it; default 64 KiB,
 *                 at most 1 MiB; KVT_NO_EAGER turns it off
 * heartbeat_ns    interval of heartbeats; default 1 s
 * lost_after_ns   silence after which a peer is lost; default 3 s, at least twice the heartbeat
 * spin_ns         how long a worker or waiting caller polls before it sleeps, always; KVT_NO_SPIN: it
 *                 never does. Default: up to 200 us, learned from how soon work has come, and not
 *                 while others want the CPU
 * cpus, cpu_count CPUs to pin workers to, round robin; default: those near the NIC when there are
 *                 enough of them, else not pinned
 * interrupted     called on the calling thread at least every 100 ms while a call waits; nonzero ends
 *                 the call with KVT_E_CANCELLED (kvt_transfer_wait: KVT_E_AGAIN). Calls that close or
 *                 free may ask it too, and wait on: their wait is bounded
 * lane_ports      ports that peers connect their lanes to, as "40000-40100", for a firewall that lets
 *                 these and listen_port through; engines of one host may share them, each takes one
 *                 per interface while a peer connects. Default: any free port
 * auth_key,       a key of the program's own, 32 bytes, or the text of a key file. Default: the user's key
 * auth_key_len    file, which is the one that KVTRANS_KEY_FILE names, else kvtrans/key in XDG_CONFIG_HOME
 *                 or ~/.config, made on first use (kvtrans-key(1)). A peer is let in, and lets this engine
 *                 in, with a key that both have
 * insecure        no keys: whoever reaches the port is let in, and is trusted with what is exported to
 *                 him. Both sides are, or none. A line on stderr warns of it
 * accept_events   peers that connect are told as KVT_EVENT_CONN_ACCEPTED, and not taken with kvt_conn_accept()
 * checksum        every byte is checked on its way from one side's memory to the other's, on all connections of this
 *                 engine, whatever the peer's setting: one that is flipped fails its transfer with CORRUPT, on
 *                 both sides, or ends the connection with PEER_LOST (docs/protocol.md 6.7). Against faults, not
 *                 against attackers. A peer that cannot do it is refused, or refuses, with VERSION
 * identity,       what this engine tells its peers of itself: up to KVT_IDENTITY_LEN_MAX bytes of the
 * identity_len    application's, sent when both have shown their keys (kvt_conn_get_peer_identity())
 */
struct kvt_engine_config {
	size_t size;
	const char *const *interfaces;
	size_t interface_count;
	const char *provider;
	unsigned ncpus;
	unsigned nconn_per_cpu;
	uint16_t listen_port;
	bool insecure;
	bool accept_events;
	bool checksum;
	size_t eager_len;
	int64_t heartbeat_ns;
	int64_t lost_after_ns;
	int64_t spin_ns;
	const unsigned *cpus;
	size_t cpu_count;
	int (*interrupted)(void *arg);
	void *interrupted_arg;
	const char *lane_ports;
	const void *auth_key;
	size_t auth_key_len;
	const void *identity;
	size_t identity_len;
};

enum { KVT_IDENTITY_LEN_MAX = 1024 };

#define KVT_NO_EAGER SIZE_MAX
#define KVT_NO_SPIN KVT_NOWAIT
#define KVT_ENGINE_CONFIG_INIT KVT_INIT(kvt_engine_config)

/*
 * Open an engine: rails, workers, control listener. Errors: INVALID (unknown interface, a value out of
 * range, no key file that can be used; the text names what is allowed), NO_PROVIDER, FABRIC, NO_MEMORY, LIMIT (ports, descriptors).
 */
KVT_API enum kvt_err kvt_engine_open(const struct kvt_engine_config *config,
				     struct kvt_engine **engine, struct kvt_error *error);

/*
 * Stop an engine: tell the peers, fail everything in flight with KVT_E_CLOSED, wake every waiting call.
 * Handles stay valid (their calls fail with KVT_E_CLOSED) until closed. Returns within about 1 s.
 */
KVT_API void kvt_engine_stop(struct kvt_engine *engine);

/*
 * Stop the engine and give back its handle. Handles of its connections, KVs and transfers stay valid
 * until each is closed or freed, in any order. NULL is allowed. After fork, in the child: frees nothing
 * that the parent uses and returns.
 *
 * A process that closes descriptors of an engine (closefrom(3), os.closerange()) breaks it: connections and
 * their transfers end with KVT_E_CLOSED, and nothing but closing works any more, which takes no longer than
 * else. For up to 250 ms after, numbers that others have got meanwhile may be written to or slept on; from
 * then on they are left alone.
 */
KVT_API void kvt_engine_close(struct kvt_engine *engine);

/* The port the control listener is on, and the IP address that is its first interface's; the provider in use ("tcp").
 * Texts are valid as long as the handle. */
KVT_API uint16_t kvt_engine_get_port(const struct kvt_engine *engine);
KVT_API const char *kvt_engine_get_host(const struct kvt_engine *engine);
KVT_API const char *kvt_engine_get_provider(const struct kvt_engine *engine);

/*
 * The address for kvt_conn_open_address(): bytes that name the engine's hosts and port, and this engine and no
 * other that is there later. It is no secret, and can be sent any way. bytes NULL: its length. *len: the room at
 * bytes, then the length. KVT_E_TOO_LARGE: more room is needed; KVT_E_INVALID.
 */
KVT_API enum kvt_err kvt_engine_get_address(const struct kvt_engine *engine, void *bytes,
					    size_t *len);

/*
 * Take other keys from now on: auth_key as in the configuration, NULL: those that the key file has now. So keys are
 * replaced without a restart: add the new one behind the old one, on all hosts, reload; make it the first, reload;
 * remove the old one, reload. Connections stay as they are. Errors (the keys of before stay): INVALID,
 * NO_MEMORY, FORKED.
 */
KVT_API enum kvt_err kvt_engine_reload_keys(struct kvt_engine *engine, const void *auth_key,
					    size_t auth_key_len, struct kvt_error *error);

/* Buckets of a latency histogram: bucket i counts times in [2^i, 2^(i+1)) ns; the last takes the rest. */
enum { KVT_LATENCY_BUCKETS = 40 };

/* Counters since open; gauges say "now". Of an engine: the sum over its connections, closed ones too. */
struct kvt_stats {
	size_t size;
	uint64_t connections; /* now open (1 or 0 for one connection) */
	uint64_t connections_total;
	uint64_t connections_lost;
	uint64_t handshakes_failed;
	uint64_t kvs;		/* now open */
	uint64_t registrations; /* memory regions now registered with the fabric */
	uint64_t transfers;	/* now in flight */
	uint64_t sends;		/* completed with success */
	uint64_t receives;
	uint64_t failures; /* transfers completed with an error */
	uint64_t bytes_sent;
	uint64_t bytes_received;
	uint64_t writes; /* paged transfers completed with success */
	uint64_t reads;
	uint64_t bytes_written;
	uint64_t bytes_read;
	uint64_t notifications; /* received */
	uint64_t eager_sends;
	uint64_t segments; /* RMA operations posted */
	uint64_t corruptions; /* pieces of data that came wrong, here or at a peer, and packets that came wrong here */
	uint64_t send_latency[KVT_LATENCY_BUCKETS]; /* start to completion of successful sends */
};

#define KVT_STATS_INIT KVT_INIT(kvt_stats)

KVT_API enum kvt_err kvt_engine_get_stats(struct kvt_engine *engine, struct kvt_stats *stats);

/* ---- connections ---- */

/*
 * Connect to the engine on a port of host: a name or an IP address, IPv6 also as "[::1]" and with its
 * zone as "fe80::1%eth0". All addresses of a name are tried, the families in turn, until one is an
 * engine's. Default timeout: 5 s. Errors, which name host, address and port: UNREACHABLE (refused, no
 * answer in time), VERSION, AUTH, PROTOCOL, NO_PROVIDER, LIMIT, CLOSED, CANCELLED (interrupted), FORKED;
 * INVALID (the text says what to pass).
 */
KVT_API enum kvt_err kvt_conn_open(struct kvt_engine *engine, const char *host, uint16_t port,
				   int64_t timeout_ns, struct kvt_conn **conn,
				   struct kvt_error *error);

/*
 * The same with an address that kvt_engine_get_address() has given the peer. Its hosts are tried in their order until
 * that engine answers; one that has been restarted since is another, and UNREACHABLE, as the text says. INVALID:
 * bytes that are no address, or not a whole one; VERSION: the address of a later version.
 */
KVT_API enum kvt_err kvt_conn_open_address(struct kvt_engine *engine, const void *address,
					   size_t len, int64_t timeout_ns, struct kvt_conn **conn,
					   struct kvt_error *error);

/*
 * Connect without waiting: a host and its port, or an engine's address. reap: kvt_engine_reap() shall return the
 * transfer. Default timeout: 5 s.
 */
struct kvt_connect_request {
	size_t size;
	const char *host;
	const void *address; /* as of kvt_conn_open_address(); host is NULL then */
	size_t address_len;
	uint16_t port;
	bool reap;
	int64_t timeout_ns;
};

#define KVT_CONNECT_REQUEST_INIT KVT_INIT(kvt_connect_request)

/*
 * Start to connect; thousands may be under way at a time, on one thread of the engine. The transfer ends as kvt_conn_open()
 * does, or, cancelled, with CANCELLED; its connection is taken with kvt_transfer_take_conn(). Errors of the start:
 * INVALID, VERSION (an address), LIMIT (4,096 under way; descriptors), NO_MEMORY, CLOSED, FORKED.
 */
KVT_API enum kvt_err kvt_connect_start(struct kvt_engine *engine,
				       const struct kvt_connect_request *request,
				       struct kvt_transfer **transfer, struct kvt_error *error);

/*
 * The connection of a kvt_connect_start() that has succeeded: the caller's from now on. It is given once, to one thread.
 * NULL else, and when the engine was stopped. One that nobody takes is closed when the transfer is freed. Registers
 * memory where there are offers (kvt_offer_open()).
 */
KVT_API struct kvt_conn *kvt_transfer_take_conn(struct kvt_transfer *transfer);

/*
 * Take the next peer that connected. Default timeout: for ever. Errors: TIMEOUT, CLOSED, ...
 * A peer that has gone is taken, too, when it left messages or notifications: they are received and told
 * of as on a connection that ended later. 1,024 peers may wait; further ones are refused with LIMIT.
 * INVALID: this engine tells of them by events.
 */
KVT_API enum kvt_err kvt_conn_accept(struct kvt_engine *engine, int64_t timeout_ns,
				     struct kvt_conn **conn, struct kvt_error *error);

/*
 * Tell the peer, fail what is in flight with KVT_E_CLOSED, sever the lanes, give back the handle.
 * Events of the connection that were not taken are dropped. Returns within about 1 s. The
 * connection's KVs stay valid handles until closed. NULL is allowed.
 */
KVT_API void kvt_conn_close(struct kvt_conn *conn);

/* The peer's address as text (valid as long as the handle) and port. */
KVT_API const char *kvt_conn_get_host(const struct kvt_conn *conn);
KVT_API uint16_t kvt_conn_get_port(const struct kvt_conn *conn);
/* The id of the key that the peer has shown, as kvtrans-key prints it: its principal. "" when insecure. */
KVT_API const char *kvt_conn_get_key_id(const struct kvt_conn *conn);
/* The identity that the peer's engine was opened with, and its length; 0 and NULL when it has none. Valid as long as
 * the handle. It says what the peer says: whom that key belongs to, kvt_conn_get_key_id() tells. */
KVT_API const void *kvt_conn_get_peer_identity(const struct kvt_conn *conn, size_t *len);
/*
 * What the connection's lanes run on: "local", where both engines were found to be on one host, else the network's
 * provider ("tcp"). reason (may be NULL): why it is not local; "" where it is. The path lives as long as the engine, the
 * reason as long as this handle. Any thread.
 */
KVT_API const char *kvt_conn_get_path(const struct kvt_conn *conn, const char **reason);
/* KVT_OK while the connection is open, else why it is not; fills error (may be NULL) then. */
KVT_API enum kvt_err kvt_conn_get_status(struct kvt_conn *conn, struct kvt_error *error);
KVT_API enum kvt_err kvt_conn_get_stats(struct kvt_conn *conn, struct kvt_stats *stats);

/* ---- KVs: matched send and receive ---- */

#define KVT_TAG_AUTO UINT64_MAX
#define KVT_TAG_MAX (UINT64_C(1) << 63) /* tags are below this */

/*
 * A KV binds memory to a connection under a tag. base may be NULL with len 0: then every transfer
 * brings its own buffer. The memory must stay valid until kvt_kv_close() has returned.
 * tag: KVT_TAG_AUTO lets the n-th KV opened so on this side meet the n-th on the other.
 */
struct kvt_kv_config {
	size_t size;
	void *base;
	size_t len;
	bool read_only; /* never a receive target */
	uint64_t tag;
};

#define KVT_KV_CONFIG_INIT KVT_INIT_WITH(kvt_kv_config, tag, KVT_TAG_AUTO)

/* Errors: INVALID (also a tag in use), LIMIT (65,536 per connection), NO_MEMORY, FABRIC, PEER_*, CLOSED. */
KVT_API enum kvt_err kvt_kv_open(struct kvt_conn *conn, const struct kvt_kv_config *config,
				 struct kvt_kv **kv, struct kvt_error *error);

/* Cancel what is in flight on this KV (KVT_E_CLOSED), wait until nobody touches its memory, drop the
 * messages that no receive has taken, give back the handle. Returns soon. NULL is allowed. */
KVT_API void kvt_kv_close(struct kvt_kv *kv);

enum { KVT_META_LEN_MAX = 4096 };

/*
 * Send len bytes at base. meta: up to KVT_META_LEN_MAX bytes that travel with the message (copied).
 * Default timeout: 60 s. Success means the receiver has the bytes: in its buffer, or, up to eager_len,
 * in its engine, from where it gets them whatever becomes of this side or the connection. The memory must
 * stay unchanged until the transfer completes.
 */
struct kvt_send_request {
	size_t size;
	const void *base;
	size_t len;
	const void *meta;
	size_t meta_len;
	bool reap; /* kvt_engine_reap() shall return the transfer */
	int64_t timeout_ns;
};

/*
 * Receive the next message into len bytes at base. base NULL: the engine allocates what the message
 * needs, at most len bytes (SIZE_MAX: any); take it with kvt_transfer_take_data().
 * Default timeout: for ever. A message larger than len ends the receive with KVT_E_TOO_LARGE,
 * result.len is its size, and it stays for a larger receive.
 */
struct kvt_recv_request {
	size_t size;
	void *base;
	size_t len;
	bool reap; /* as above */
	int64_t timeout_ns;
};

#define KVT_SEND_REQUEST_INIT KVT_INIT(kvt_send_request)
#define KVT_RECV_REQUEST_INIT KVT_INIT(kvt_recv_request)

/* Start a transfer; never blocks. Messages of one KV keep their order. Errors: INVALID, LIMIT,
 * NO_MEMORY, FORKED and, of a send, what ended the connection; everything later is the transfer's
 * result. A receive starts on a connection that has ended, too: it may find a message that came before. */
KVT_API enum kvt_err kvt_send_start(struct kvt_kv *kv, const struct kvt_send_request *request,
				    struct kvt_transfer **transfer, struct kvt_error *error);
KVT_API enum kvt_err kvt_recv_start(struct kvt_kv *kv, const struct kvt_recv_request *request,
				    struct kvt_transfer **transfer, struct kvt_error *error);

#ifdef __cplusplus
}
#endif

#endif
