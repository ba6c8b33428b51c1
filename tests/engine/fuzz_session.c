/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_session.c - a fuzzer's target: the control channel of two engines, through their own sessions and threads,
 * with somebody between them who passes on what they say and strikes once: at any step before the connection is open
 * or after it, in either direction. Engines without a key show what a peer can do that has authenticated; engines
 * with one, what somebody on the way can do.
 *
 * An input: where to strike (which thing said in its direction), which way, how, and bytes for that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kvtrans.h>

#include "base/clock.h"
#include "support/failing_alloc.h"
#include "support/fake_fabric.h"
#include "support/fuzz.h"
#include "wire/wire.h"

enum {
	HEAD_LEN = 3,
	CHUNK_LEN = 4096,
	STEPS = 4,	  /* in each direction; from the last on the connection is open */
	IDLE_MS = 2,	  /* both are silent: nothing more comes of this input */
	ROUNDS_MAX = 400, /* of IDLE_MS, before anything was said */
	VISIT_EVERY = 64, /* inputs */
	TEXT_LEN = 64,
	/* With the memory of the default, filling it took most of an input's time. */
	EAGER_LEN = 4096,
};

/* The largest that one input may take: the handshake's own limit, the connection's, and a machine that is busy. */
#define INPUT_NS (60 * KVI_SECOND)

/* Shorter than the pause before an engine calls again whom it was hung up on. */
#define CALL_NS (45 * KVI_MS)

enum how {
	HOW_RAW,      /* insert the bytes as they are */
	HOW_RECORD,   /* insert them as the content of a record */
	HOW_CHANGE,   /* change bytes of what is said: pairs of offset and value */
	HOW_DROP,     /* leave it out */
	HOW_TWICE,    /* say it twice */
	HOW_CUT,      /* say a part of it and close */
	HOW_BACKWARD, /* say it to who said it */
	HOW_COUNT,
};

struct pair {
	struct kvt_engine *near; /* calls */
	struct kvt_engine *far;
};

/* One end's words, until a whole thing is there. */
struct flow {
	int from;
	int to;
	bool is_opened; /* OPENING, and ANSWER where there is one, are behind: records come */
	unsigned step;
	size_t len;
	uint8_t bytes[2 * CHUNK_LEN];
};

struct strike {
	unsigned step;
	unsigned way; /* 0: to the far engine */
	enum how how;
	const uint8_t *bytes;
	size_t len;
	bool is_done;
};

/* Who calls: kvt_conn_open() is a call that waits. */
static struct {
	pthread_t thread;
	int start_fd; /* eventfd */
	int done_fd;
	struct kvt_engine *engine; /* NULL: stop */
	struct kvt_conn *conn;
	enum kvt_err err;
} caller;

const char fuzz_corpus[] = "engine/corpus-session";
const unsigned long fuzz_count = 6000;

static struct pair pairs[2]; /* without a key, with one */
static struct pair visit;    /* an honest peer of the same far engine, which is to stay unharmed */
static struct kvt_conn *visit_conns[2];
static struct kvt_kv *visit_kvs[2];
static int listen_fd;
static uint16_t listen_port;
static long live_before;
static unsigned long opened_count, refused_count, struck_count, visits;

/* ---- engines ---- */

static struct kvt_engine *open_engine(bool insecure)
{
	static const char *const interfaces[] = { "fake0" };
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvt_engine *engine;
	struct kvt_error error;
	config.interfaces = interfaces;
	config.interface_count = 1;
	config.ncpus = 1;
	config.eager_len = EAGER_LEN;
	config.insecure = insecure;
	if (!insecure) {
		config.auth_key = "a key that nobody knows ........";
		config.auth_key_len = 32;
	}
	if (kvt_engine_open(&config, &engine, &error) != KVT_OK) {
		fprintf(stderr, "no engine: %s\n", error.text);
		abort();
	}
	return engine;
}

static struct kvt_kv *open_kv(struct kvt_conn *conn)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv;
	config.tag = 1;
	require(kvt_kv_open(conn, &config, &kv, NULL) == KVT_OK);
	return kv;
}

static void finish_transfer(struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
	while (kvt_transfer_wait(transfer, KVI_SECOND) != KVT_OK)
		require(kvi_clock_now() < deadline_ns);
	require(kvt_transfer_get_result(transfer, &result) == KVT_OK);
	require(result.err == KVT_OK);
	kvt_transfer_free(transfer);
}

/* The honest peer's messages still come, both ways. */
static void pay_visit(void)
{
	for (unsigned i = 0; i < 2; i++) {
		char said[TEXT_LEN], heard[TEXT_LEN] = "";
		struct kvt_send_request send = KVT_SEND_REQUEST_INIT;
		struct kvt_recv_request recv = KVT_RECV_REQUEST_INIT;
		struct kvt_transfer *sent, *received;
		snprintf(said, sizeof(said), "visit %lu", visits++);
		send.base = said;
		send.len = sizeof(said);
		recv.base = heard;
		recv.len = sizeof(heard);
		require(kvt_recv_start(visit_kvs[1 - i], &recv, &received, NULL) == KVT_OK);
		require(kvt_send_start(visit_kvs[i], &send, &sent, NULL) == KVT_OK);
		finish_transfer(sent);
		finish_transfer(received);
		require(strcmp(said, heard) == 0);
	}
}

/* ---- calling ---- */

static void signal_fd(int fd)
{
	uint64_t one = 1;
	require(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void clear_fd(int fd)
{
	uint64_t count;
	require(read(fd, &count, sizeof(count)) == sizeof(count));
}

static void *run_caller(void *arg)
{
	(void)arg;
	for (;;) {
		clear_fd(caller.start_fd);
		if (caller.engine == NULL)
			return NULL;
		caller.err = kvt_conn_open(caller.engine, "127.0.0.1", listen_port, CALL_NS,
					   &caller.conn, NULL);
		signal_fd(caller.done_fd);
	}
}

static void send_at_once(int fd)
{
	int one = 1;
	require(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(fd >= 0);
	require(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	send_at_once(fd);
	return fd;
}

/* No port stays in TIME_WAIT for each of thousands of calls. */
static void close_at_once(int fd)
{
	struct linger linger = { .l_onoff = 1 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void set_up(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	live_before = failing_alloc_get_live();
	for (unsigned i = 0; i < 2; i++) {
		pairs[i].near = open_engine(i == 0);
		pairs[i].far = open_engine(i == 0);
	}
	visit.near = open_engine(true);
	visit.far = pairs[0].far;
	require(kvt_conn_open(visit.near, "127.0.0.1", kvt_engine_get_port(visit.far),
			      5 * KVI_SECOND, &visit_conns[0], NULL) == KVT_OK);
	require(kvt_conn_accept(visit.far, 5 * KVI_SECOND, &visit_conns[1], NULL) == KVT_OK);
	visit_kvs[0] = open_kv(visit_conns[0]);
	visit_kvs[1] = open_kv(visit_conns[1]);

	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	require(listen(listen_fd, 16) == 0);
	require(getsockname(listen_fd, (struct sockaddr *)&address, &len) == 0);
	listen_port = ntohs(address.sin_port);
	caller.start_fd = eventfd(0, EFD_CLOEXEC);
	caller.done_fd = eventfd(0, EFD_CLOEXEC);
	require(pthread_create(&caller.thread, NULL, run_caller, NULL) == 0);
}

/* ---- what is said, and the strike ---- */

/* How long the first thing in the flow is; 0: it is not whole. */
static size_t get_thing(const struct flow *flow)
{
	size_t wanted;
	if (!flow->is_opened) {
		wanted = flow->len < KVI_FRAME_HEADER_LEN
				 ? KVI_FRAME_HEADER_LEN
				 : kvi_frame_get_len(flow->bytes, KVI_HELLO_FRAME_MAX);
	} else {
		wanted = flow->len < KVI_RECORD_HEADER_LEN
				 ? KVI_RECORD_HEADER_LEN
				 : KVI_RECORD_HEADER_LEN + kvi_record_get_len(flow->bytes);
	}
	return wanted > 0 && flow->len >= wanted ? wanted : 0;
}

static void say(int fd, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	while (len > 0) {
		ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
		if (sent <= 0)
			return; /* who shall hear it has hung up */
		at += sent;
		len -= (size_t)sent;
	}
}

static void say_record(int fd, const uint8_t *bytes, size_t len)
{
	uint8_t header[KVI_RECORD_HEADER_LEN];
	kvi_record_put_len(len, header);
	say(fd, header, sizeof(header));
	say(fd, bytes, len);
}

/* Strike instead of passing on the thing of that length; 0: there is none any more. False: hang up. */
static bool strike_at(struct strike *strike, struct flow *flow, size_t len)
{
	strike->is_done = true;
	struck_count++;
	switch (strike->how) {
	case HOW_RAW:
		say(flow->to, strike->bytes, strike->len);
		break;
	case HOW_RECORD:
		say_record(flow->to, strike->bytes, strike->len);
		break;
	case HOW_CHANGE:
		for (size_t i = 0; len > 0 && i + 1 < strike->len; i += 2)
			flow->bytes[strike->bytes[i] % len] ^= strike->bytes[i + 1];
		break;
	case HOW_DROP:
		return true;
	case HOW_TWICE:
		say(flow->to, flow->bytes, len);
		break;
	case HOW_CUT:
		say(flow->to, flow->bytes, len > 0 && strike->len > 0 ? strike->bytes[0] % len : 0);
		return false;
	case HOW_BACKWARD:
		say(flow->from, flow->bytes, len);
		break;
	case HOW_COUNT:
		break;
	}
	say(flow->to, flow->bytes, len);
	return true;
}

/* Take what one end has said. False: it has hung up, or shall be. */
static bool pass_on(struct strike *strike, struct flow *flow, unsigned way)
{
	size_t len;
	ssize_t got = recv(flow->from, flow->bytes + flow->len, CHUNK_LEN, MSG_DONTWAIT);
	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	flow->len += (size_t)got;
	while ((len = get_thing(flow)) > 0) {
		bool is_hit = !strike->is_done && strike->way == way && strike->step == flow->step;
		if (is_hit && !strike_at(strike, flow, len))
			return false;
		if (!is_hit)
			say(flow->to, flow->bytes, len);
		flow->is_opened = true;
		flow->step++;
		flow->len -= len;
		memmove(flow->bytes, flow->bytes + len, flow->len);
	}
	return flow->len < CHUNK_LEN;
}

/* Stand between the two until one hangs up, or both are silent and the strike is done. */
static void relay(struct strike *strike, int near_fd, int far_fd, bool has_key)
{
	static struct flow flows[2];
	flows[0] = (struct flow){ .from = near_fd, .to = far_fd };
	/* Where there are no keys nobody answers an OPENING. */
	flows[1] = (struct flow){ .from = far_fd, .to = near_fd, .is_opened = !has_key };
	bool goes_on = true;
	for (unsigned idle = 0; goes_on && idle < ROUNDS_MAX;) {
		struct pollfd fds[] = {
			{ .fd = near_fd, .events = POLLIN },
			{ .fd = far_fd, .events = POLLIN },
		};
		int ready = poll(fds, 2, IDLE_MS);
		for (unsigned way = 0; ready > 0 && goes_on && way < 2; way++) {
			if (fds[way].revents != 0)
				goes_on = pass_on(strike, &flows[way], way);
		}
		if (ready != 0)
			continue;
		idle++;
		if (strike->is_done)
			return;
		bool is_open = flows[0].step >= STEPS - 1 && flows[1].step >= STEPS - 1;
		if (is_open && !strike_at(strike, &flows[strike->way], 0))
			return;
	}
}

/* ---- one input ---- */

static void take_connections(struct kvt_engine *engine)
{
	struct kvt_conn *conn;
	while (kvt_conn_accept(engine, KVT_NOWAIT, &conn, NULL) == KVT_OK)
		kvt_conn_close(conn);
	struct kvt_event *event;
	while (kvt_engine_get_event(engine, &event) == KVT_OK)
		kvt_event_free(event);
}

/* Be between them for the call; hang up on those that the caller makes after it. */
static void answer_calls(struct strike *strike, const struct pair *pair, bool has_key)
{
	int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
	bool is_first = true;
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = listen_fd, .events = POLLIN },
			{ .fd = caller.done_fd, .events = POLLIN },
		};
		require(poll(fds, 2, 1000) >= 0 && kvi_clock_now() < deadline_ns);
		if (fds[1].revents != 0)
			break;
		if (fds[0].revents == 0)
			continue;
		int near_fd = accept(listen_fd, NULL, NULL);
		require(near_fd >= 0);
		send_at_once(near_fd);
		if (is_first) {
			int far_fd = connect_to(kvt_engine_get_port(pair->far));
			relay(strike, near_fd, far_fd, has_key);
			close_at_once(far_fd);
		}
		is_first = false;
		close_at_once(near_fd);
	}
	clear_fd(caller.done_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static unsigned long inputs;
	if (listen_port == 0)
		set_up();
	if (len < HEAD_LEN)
		return 0;

	bool has_key = bytes[1] & 2;
	struct pair *pair = &pairs[has_key];
	struct strike strike = {
		.step = bytes[0] % (STEPS + 1),
		.way = bytes[1] & 1,
		.how = bytes[2] % HOW_COUNT,
		.bytes = bytes + HEAD_LEN,
		.len = len - HEAD_LEN,
	};
	caller.engine = pair->near;
	caller.conn = NULL;
	signal_fd(caller.start_fd);
	answer_calls(&strike, pair, has_key);
	if (caller.err == KVT_OK) {
		opened_count++;
		kvt_conn_close(caller.conn);
	} else {
		refused_count++;
	}
	take_connections(pair->far);
	if (++inputs % VISIT_EVERY == 0)
		pay_visit();
	return 0;
}

/* ---- seeds, changes, the end ---- */

/* A change in a frame is one in its content, mostly. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned int seed)
{
	if (seed % 4 != 0 || len < HEAD_LEN)
		return LLVMFuzzerMutate(bytes, len, room);
	seed /= 4;
	bytes[0] = (uint8_t)(seed % (STEPS + 1));
	bytes[1] = (uint8_t)(seed / 8 % 2 + (seed / 16 % 4 == 0 ? 2 : 0));
	if (seed / 64 % 2 == 0)
		bytes[2] = (uint8_t)(seed / 128 % HOW_COUNT);
	return len;
}

void fuzz_add_seeds(void (*add)(const uint8_t *bytes, size_t len))
{
	static struct kvi_frame frames[] = {
		{ .type = KVI_FRAME_HELLO,
		  .hello = { .version_min = 1,
			     .version_max = 1,
			     .lane_count = 1,
			     .eager_len = 65536,
			     .rx_count = 32,
			     .provider_count = 1,
			     .providers = { "fake" } } },
		{ .type = KVI_FRAME_WELCOME,
		  .welcome = { .version = 1,
			       .lane_count = 1,
			       .eager_len = 65536,
			       .rx_count = 32,
			       .provider = "fake" } },
		{ .type = KVI_FRAME_REFUSE, .ending = { KVT_E_LIMIT, "too many" } },
		{ .type = KVI_FRAME_LANES,
		  .lanes = { .rail_count = 1, .rails = { { .len = 16, .address = "kvt-fake" } } } },
		{ .type = KVI_FRAME_READY },
		{ .type = KVI_FRAME_HEARTBEAT },
		{ .type = KVI_FRAME_CLOSE, .ending = { KVT_E_CLOSED, "bye" } },
		{ .type = KVI_FRAME_CLOSE, .ending = { KVT_E_NO_MEMORY, "no memory" } },
		{ .type = KVI_FRAME_OPENING, .opening = { .version = 1 } },
		{ .type = KVI_FRAME_ANSWER },
	};
	for (unsigned step = 0; step <= STEPS; step++) {
		for (unsigned way = 0; way < 4; way++) {
			for (unsigned how = HOW_CHANGE; how < HOW_COUNT; how++)
				add((uint8_t[]){ (uint8_t)step, (uint8_t)way, (uint8_t)how, 9, 1 },
				    HEAD_LEN + 2);
		}
		for (size_t i = 0; i < 2 * sizeof(frames) / sizeof(frames[0]); i++) {
			uint8_t input[FUZZ_INPUT_MAX] = { (uint8_t)step, i % 2, HOW_RECORD };
			size_t len = kvi_frame_encode(&frames[i / 2], input + HEAD_LEN,
						      sizeof(input) - HEAD_LEN);
			add(input, HEAD_LEN + len);
		}
	}
}

void fuzz_finish(void)
{
	pay_visit();
	caller.engine = NULL;
	signal_fd(caller.start_fd);
	pthread_join(caller.thread, NULL);
	close(caller.start_fd);
	close(caller.done_fd);
	close(listen_fd);
	for (unsigned i = 0; i < 2; i++) {
		kvt_kv_close(visit_kvs[i]);
		kvt_conn_close(visit_conns[i]);
	}
	kvt_engine_close(visit.near);
	for (unsigned i = 0; i < 2; i++) {
		struct kvt_stats stats = KVT_STATS_INIT;
		take_connections(pairs[i].far);
		kvt_engine_get_stats(pairs[i].near, &stats);
		require(stats.connections == 0 && stats.registrations == 0);
		kvt_engine_close(pairs[i].near);
		kvt_engine_close(pairs[i].far);
	}
	require(fake_is_empty());
	require(failing_alloc_get_live() == live_before);
	printf("control channels: %lu struck, %lu opened, %lu refused, %lu messages of another "
	       "peer came\n",
	       struck_count, opened_count, refused_count, visits);
}
