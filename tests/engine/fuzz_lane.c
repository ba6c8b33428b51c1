/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_lane.c - a fuzzer's target: what a peer says on a lane that has authenticated. The far engine sends,
 * receives, exports and moves blocks; the near one is a puppet: its links say what the input says, of the
 * right types, with numbers that are right, wrong, said before or at the edge, and nothing of what the far one
 * says is answered by itself. Whatever is said, the far engine's transfers end, its memory is touched where it
 * may be, and its other peer notices nothing.
 *
 * An input: what the far engine does, then messages: a type, and a byte or more for each field.
 */
#include <stdatomic.h>
#include <string.h>

#include <kvtrans.h>

#include "base/clock.h"
#include "base/thread.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/messages.h"
#include "engine/paged/exports.h"
#include "engine/tagged/kv.h"
#include "support/failing_alloc.h"
#include "support/fake_fabric.h"
#include "support/fuzz.h"
#include "support/guarded.h"

enum {
	BLOCK_LEN = 4096,
	BLOCK_COUNT = 8,
	LARGE_LEN = 200 * 1024,
	SMALL_LEN = 200,
	/* Of each connection: with the memory of the defaults, filling it took most of an input's time. */
	EAGER_LEN = 4096,
	SEGMENT_LEN = 64 * 1024,
	NUMBERS_MAX = 64,
	MESSAGES_MAX = 40,
	DATA_MAX = 600,
	TRANSFERS_MAX = 8,
	TAGS = 4,
	VISIT_EVERY = 32,
};

#define INPUT_NS (30 * KVI_SECOND)
#define MARK UINT64_C(0x6d61726b6d61726b) /* the SYNC that ends an input */

/* What an input makes beside messages. */
enum { DO_RAW = 0, DO_CANCEL = KVI_MESSAGE_LAST + 1, DO_CLOSE_KV, DO_COUNT };

/* What the far engine does. */
enum {
	WORK_RECV = 1,
	WORK_SEND = 2,
	WORK_WRITE = 4,
	WORK_READ = 8,
	WORK_NOTIFY = 16,
	WORK_SMALL = 32,
	WORK_SUMS = 64, /* the connection has them */
};

struct input {
	const uint8_t *bytes;
	size_t left;
};

const char fuzz_corpus[] = "engine/corpus-lane";
const unsigned long fuzz_count = 2000;

static struct kvt_engine *near_engine, *far_engine, *visitor;
static struct kvt_conn *near_conn, *far_conn, *visit_conns[2];
static struct kvt_kv *far_kvs[TAGS], *visit_kvs[2];
static struct kvt_pool *near_pool, *far_pool;
static struct kvt_export *near_export, *far_export;
static struct kvt_remote *near_remote, *far_remote;
static struct kvt_transfer *transfers[TRANSFERS_MAX];
static pthread_t closers[TAGS]; /* of KVs */
static unsigned transfer_count, closer_count;
static struct guarded near_memory, far_memory, large, small;
static long live_before;
static unsigned long message_count, refused_count, visits, done_count;

/* What the far engine has said; under the near worker's lock. */
static uint64_t numbers[NUMBERS_MAX];
static unsigned number_count;
static bool is_marked;

/* ---- the puppet ---- */

static void learn(uint64_t number)
{
	if (number_count < NUMBERS_MAX)
		numbers[number_count++] = number;
	else
		numbers[number % NUMBERS_MAX] = number;
}

/* Until both sides have imported, and on the way out, the near engine is a peer as any other. */
static atomic_bool is_puppet;

static enum kvt_err take(struct kvi_link *link, const struct kvi_message *message)
{
	if (!atomic_load(&is_puppet) || message->type == KVI_MESSAGE_LANE_END)
		return kvi_message_handlers.take[message->type](link, message);
	switch (message->type) {
	case KVI_MESSAGE_EAGER:
	case KVI_MESSAGE_NOTIFY: {
		struct kvi_message copy = *message;
		learn(message->type == KVI_MESSAGE_EAGER ? message->eager.seq
							 : message->notify.transfer);
		kvi_link_return_window(
			link, message->type == KVI_MESSAGE_EAGER ? message->eager.meta.len : 0,
			kvi_message_get_data(&copy)->len);
		break;
	}
	case KVI_MESSAGE_START:
		learn(message->start.seq);
		break;
	case KVI_MESSAGE_CTS:
	case KVI_MESSAGE_FIN:
	case KVI_MESSAGE_CANCEL:
	case KVI_MESSAGE_CACK:
		learn(message->cts.seq);
		learn(message->cts.generation);
		break;
	case KVI_MESSAGE_NOTED:
		is_marked |= message->sync.transfer == MARK;
		break;
	default: /* begins with a number, if it has one */
		learn(message->ack.seq);
	}
	return KVT_OK;
}

static struct kvi_handlers puppet_handlers;

/* ---- engines ---- */

static struct kvt_engine *open_engine(const struct kvi_handlers *handlers)
{
	static const char *const interfaces[] = { "fake0" };
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvt_engine *engine;
	struct kvt_error error;
	config.interfaces = interfaces;
	config.interface_count = 1;
	config.ncpus = 1;
	config.eager_len = EAGER_LEN;
	config.insecure = true;
	if (kvt_engine_open(&config, &engine, &error) != KVT_OK) {
		fprintf(stderr, "no engine: %s\n", error.text);
		abort();
	}
	if (handlers != NULL)
		engine->handlers = handlers; /* nobody talks to it yet */
	return engine;
}

static struct kvt_pool *open_pool(struct kvt_engine *engine, struct guarded *memory)
{
	struct kvt_extent extent = { memory->base, BLOCK_COUNT, BLOCK_LEN };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	config.extents = &extent;
	config.extent_count = 1;
	config.block_len = BLOCK_LEN;
	require(kvt_pool_open(engine, &config, &pool, NULL) == KVT_OK);
	return pool;
}

static struct kvt_kv *open_kv(struct kvt_conn *conn, uint64_t tag)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv;
	config.tag = tag;
	require(kvt_kv_open(conn, &config, &kv, NULL) == KVT_OK);
	return kv;
}

static void connect_engines(struct kvt_engine *near, struct kvt_conn **near_out,
			    struct kvt_conn **far_out)
{
	enum kvt_err err;
	int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
	/* A handshake has a limit of its own, which a busy machine passes. */
	do {
		err = kvt_conn_open(near, "127.0.0.1", kvt_engine_get_port(far_engine), INPUT_NS,
				    near_out, NULL);
	} while (err != KVT_OK && kvi_clock_now() < deadline_ns);
	require(err == KVT_OK);
	do {
		require(kvt_conn_accept(far_engine, INPUT_NS, far_out, NULL) == KVT_OK);
		if (kvt_conn_get_status(*far_out, NULL) == KVT_OK)
			return;
		kvt_conn_close(*far_out); /* of an earlier call */
	} while (true);
}

static void set_up(void)
{
	struct kvi_caps caps = fake_get_default_caps();
	live_before = failing_alloc_get_live();
	caps.pack_below = 2 * BLOCK_LEN;
	caps.max_segment_len = SEGMENT_LEN;
	fake_set_caps(&caps);
	puppet_handlers.on_window = kvi_message_handlers.on_window;
	for (unsigned i = 0; i <= KVI_MESSAGE_LAST; i++)
		puppet_handlers.take[i] = kvi_message_handlers.take[i] == NULL ? NULL : take;
	near_engine = open_engine(&puppet_handlers);
	far_engine = open_engine(NULL);
	visitor = open_engine(NULL);
	near_memory = guarded_make(BLOCK_COUNT * BLOCK_LEN);
	far_memory = guarded_make(BLOCK_COUNT * BLOCK_LEN);
	large = guarded_make(LARGE_LEN);
	small = guarded_make(SMALL_LEN);
	near_pool = open_pool(near_engine, &near_memory);
	far_pool = open_pool(far_engine, &far_memory);
	connect_engines(visitor, &visit_conns[0], &visit_conns[1]);
	for (unsigned i = 0; i < 2; i++)
		visit_kvs[i] = open_kv(visit_conns[i], 1);
}

static void share(struct kvt_conn *owner, struct kvt_pool *pool, struct kvt_conn *user,
		  struct kvt_export **exported, struct kvt_remote **remote)
{
	uint8_t bytes[1024];
	size_t len = sizeof(bytes);
	require(kvt_export_open(owner, pool, KVT_ACCESS_READ | KVT_ACCESS_WRITE, "pages", exported,
				NULL) == KVT_OK);
	require(kvt_export_describe(*exported, bytes, &len) == KVT_OK);
	require(kvt_remote_import(user, bytes, len, INPUT_NS, remote, NULL) == KVT_OK);
}

/* ---- what the far engine does ---- */

static void keep(enum kvt_err err, struct kvt_transfer *transfer)
{
	if (err == KVT_OK)
		transfers[transfer_count++] = transfer;
}

static void start_recv(struct kvt_kv *kv, struct guarded *memory)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.base = memory->base;
	request.len = memory->len;
	enum kvt_err err = kvt_recv_start(kv, &request, &transfer, NULL);
	keep(err, transfer);
}

static void start_send(struct kvt_kv *kv, size_t len)
{
	static uint8_t bytes[LARGE_LEN];
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.base = bytes;
	request.len = len;
	enum kvt_err err = kvt_send_start(kv, &request, &transfer, NULL);
	keep(err, transfer);
}

static void start_blocks(enum kvt_direction direction)
{
	static const int32_t indices[] = { 0, 2, 3, 5 };
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.direction = direction;
	request.pool = far_pool;
	request.remote = far_remote;
	request.local_idx = indices;
	request.remote_idx = indices;
	request.index_len = sizeof(indices[0]);
	request.count = sizeof(indices) / sizeof(indices[0]);
	enum kvt_err err = kvt_blocks_start(&request, &transfer, NULL);
	keep(err, transfer);
}

static void start_notify(void)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.conn = far_conn;
	request.notify = "note";
	request.notify_len = 4;
	enum kvt_err err = kvt_notify_start(&request, &transfer, NULL);
	keep(err, transfer);
}

static void *run_close(void *kv)
{
	kvt_kv_close(kv);
	return NULL;
}

/* Begin to close one. That lasts a second where the peer does not say that it has stopped, as the puppet does by
 * chance only, and the end of the connection ends it, too. */
static void start_close(struct kvt_kv **closed)
{
	struct kvt_kv *kv = *closed;
	if (kv == NULL)
		return;
	*closed = NULL;
	kvi_ref_take(&kv->ref);
	require(pthread_create(&closers[closer_count++], NULL, run_close, kv) == 0);
	for (bool has_begun = false; !has_begun; kvi_thread_rest(KVI_MS / 50)) {
		kvi_worker_lock(kv->worker);
		has_begun = kv->closing;
		kvi_worker_unlock(kv->worker);
	}
	kvi_ref_drop(&kv->ref);
}

static void start_work(unsigned work)
{
	if (work & WORK_RECV)
		start_recv(far_kvs[0], &large);
	if (work & WORK_SMALL)
		start_recv(far_kvs[1], &small);
	if (work & WORK_SEND) {
		start_send(far_kvs[2], LARGE_LEN);
		start_send(far_kvs[3], SMALL_LEN);
	}
	if (work & WORK_WRITE)
		start_blocks(KVT_WRITE);
	if (work & WORK_READ)
		start_blocks(KVT_READ);
	if (work & WORK_NOTIFY)
		start_notify();
}

/* ---- messages out of an input ---- */

/* Never what the fabric takes for memory that nobody has written: the input may say as many of these as it likes. */
static uint8_t take_byte(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	uint8_t byte = *input->bytes++;
	return byte == FAILING_ALLOC_FILL ? 0 : byte;
}

static uint64_t take_number(struct input *input)
{
	static const uint64_t edges[] = { UINT64_MAX, UINT64_MAX - 1,	      UINT64_C(1) << 63,
					  UINT32_MAX, UINT64_C(1) << 32,      LARGE_LEN,
					  BLOCK_LEN,  BLOCK_COUNT * BLOCK_LEN };
	uint8_t byte = take_byte(input);
	unsigned which = byte >> 3;
	uint64_t known = number_count > 0 ? numbers[which % number_count] : which;
	switch (byte & 7) {
	case 0:
	case 1:
		return known;
	case 2:
		return known + 1;
	case 3:
		return known - 1;
	case 4:
		return far_export->id;
	case 5:
		return edges[which % (sizeof(edges) / sizeof(edges[0]))];
	default:
		return which;
	}
}

static struct kvi_view take_data(struct input *input)
{
	static uint8_t data[DATA_MAX];
	size_t len = (size_t)take_byte(input) * 2;
	for (size_t i = 0; i < len && i < 32; i++)
		data[i] = i < 8 ? take_byte(input) : 0;
	return (struct kvi_view){ data, len };
}

static void take_fields(struct input *input, struct kvi_message *message)
{
	uint64_t first = take_number(input);
	struct kvi_view *data = kvi_message_get_data(message);
	/* Wherever a type has several numbers they stand at its beginning. */
	switch (message->type) {
	case KVI_MESSAGE_CREDIT:
	case KVI_MESSAGE_KV_CLOSED:
	case KVI_MESSAGE_KV_CLOSED_ACK:
	case KVI_MESSAGE_LANE_END:
		return;
	case KVI_MESSAGE_CTS:
		message->cts = (struct kvi_message_cts){
			.seq = first,
			.generation = take_number(input),
			.capacity = take_number(input),
			.rkey_count = 1 + take_byte(input) % 2,
			.rkeys = { { take_number(input), take_number(input) } },
		};
		return;
	case KVI_MESSAGE_ABORT:
	case KVI_MESSAGE_NO_EXPORT:
	case KVI_MESSAGE_NOTIFY_FAILED:
		message->abort.seq = first;
		message->abort.code = (enum kvt_err)(-40 - take_byte(input) % 16);
		break;
	case KVI_MESSAGE_PACK:
		message->pack = (struct kvi_message_pack){ .buffer = first,
							   .export_id = take_number(input),
							   .span_count = take_number(input) };
		if (take_byte(input) % 2 == 0)
			message->pack.grid = (struct kvi_wire_grid){ take_byte(input) % 4,
								     1 + take_byte(input),
								     256 + take_number(input) };
		break;
	case KVI_MESSAGE_FIN:
	case KVI_MESSAGE_STAGING:
	case KVI_MESSAGE_FOUND:
		message->fin =
			(struct kvi_message_fin){ first, take_number(input), take_number(input) };
		break;
	case KVI_MESSAGE_EAGER:
	case KVI_MESSAGE_ACK:
	case KVI_MESSAGE_ATTACHED:
	case KVI_MESSAGE_WITHDRAW:
	case KVI_MESSAGE_WITHDRAWN:
	case KVI_MESSAGE_PACK_ACK:
	case KVI_MESSAGE_NOTIFY:
	case KVI_MESSAGE_SYNC:
	case KVI_MESSAGE_NOTED:
	case KVI_MESSAGE_DROPPED:
	case KVI_MESSAGE_NOTIFY_PART:
	case KVI_MESSAGE_NOTIFY_DROP:
	case KVI_MESSAGE_PACK_WRONG:
	case KVI_MESSAGE_WRONG:
		message->ack.seq = first;
		break;
	case KVI_MESSAGE_CHECK:
		message->check = (struct kvi_message_check){ .number = first,
							     .export_id = take_number(input),
							     .sum = take_number(input) };
		break;
	case KVI_MESSAGE_CHECKED:
		message->checked = (struct kvi_message_checked){ first, take_byte(input) % 2 == 0
										? KVT_OK
										: KVT_E_CORRUPT };
		break;
	default: /* BLOCKS has its spans in data */
		message->cancel = (struct kvi_message_cancel){ first, take_number(input) };
	}
	if (data != NULL)
		*data = take_data(input);
	message->has_sum = near_conn->has_sums && kvi_message_has_sum(message->type);
	message->sum = message->has_sum ? take_number(input) : 0;
}

/* What a message takes of the window, which saying it by hand does not count. */
static void pay(struct kvi_link *link, struct kvi_message *message)
{
	uint64_t charge = 0;
	if (message->type == KVI_MESSAGE_NOTIFY_BEGIN)
		charge = message->notify_begin.len;
	else if (message->type == KVI_MESSAGE_EAGER || message->type == KVI_MESSAGE_NOTIFY ||
		 message->type == KVI_MESSAGE_NOTIFY_FAILED)
		charge = kvi_message_get_charge(0, kvi_message_get_data(message)->len);
	link->window_left -= charge < link->window_left ? charge : link->window_left;
}

/* Bytes that are no message, or an odd one. */
static void say_raw(struct kvi_link *link, struct input *input)
{
	uint8_t bytes[64];
	size_t len = 1 + take_byte(input) % sizeof(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = take_byte(input);
	if (link->lane != NULL && link->send_credits > 0 &&
	    kvi_lane_inject(link->lane, bytes, len) == KVT_OK)
		link->send_credits--;
}

static void say(struct kvi_message *message)
{
	struct kvi_link *link = &near_conn->links[0];
	kvi_worker_lock(link->shard->worker);
	pay(link, message);
	kvi_link_send(link, message);
	kvi_worker_flush(link->shard->worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(link->shard->worker);
}

static void do_one(struct input *input)
{
	struct kvi_link *link = &near_conn->links[0];
	unsigned what = take_byte(input) % DO_COUNT;
	struct kvi_message message = { .type = (enum kvi_message_type)what };
	message_count++;
	if (what == DO_CANCEL) {
		if (transfer_count > 0)
			kvt_transfer_cancel(transfers[take_byte(input) % transfer_count]);
		return;
	}
	if (what == DO_CLOSE_KV) {
		start_close(&far_kvs[take_byte(input) % TAGS]);
		return;
	}
	kvi_worker_lock(link->shard->worker);
	if (what == DO_RAW) {
		say_raw(link, input);
	} else {
		if ((what < KVI_MESSAGE_ATTACH && what != KVI_MESSAGE_LANE_END) ||
		    what == KVI_MESSAGE_WRONG)
			message.tag = take_byte(input) % (TAGS + 1);
		take_fields(input, &message);
	}
	kvi_worker_unlock(link->shard->worker);
	if (what != DO_RAW)
		say(&message);
}

/* ---- one input ---- */

static bool is_over(void)
{
	struct kvi_worker *worker = near_conn->links[0].shard->worker;
	kvi_worker_lock(worker);
	bool marked = is_marked;
	kvi_worker_unlock(worker);
	return marked || kvt_conn_get_status(far_conn, NULL) != KVT_OK ||
	       kvt_conn_get_status(near_conn, NULL) != KVT_OK;
}

/* Everything that was said has been taken: the far engine answers what is said last, or has had enough. */
static void await_reaction(void)
{
	struct kvi_message mark = { .type = KVI_MESSAGE_SYNC, .sync.transfer = MARK };
	int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
	say(&mark);
	while (!is_over()) {
		require(kvi_clock_now() < deadline_ns);
		kvi_thread_rest(KVI_MS / 10);
	}
}

static void open_connection(bool has_sums)
{
	near_engine->settings.checksum = has_sums;
	number_count = 0;
	is_marked = false;
	connect_engines(near_engine, &near_conn, &far_conn);
	share(far_conn, far_pool, near_conn, &far_export, &near_remote);
	share(near_conn, near_pool, far_conn, &near_export, &far_remote);
	for (unsigned i = 0; i < TAGS; i++)
		far_kvs[i] = open_kv(far_conn, i);
	atomic_store(&is_puppet, true);
}

static void close_connection(void)
{
	refused_count += kvt_conn_get_status(far_conn, NULL) == KVT_E_PROTOCOL;
	/* As a peer that dies: all that is left of its connection ends at once. */
	kvi_conn_fail(near_conn, KVT_E_PEER_LOST, 0, "the input has ended");
	atomic_store(&is_puppet, false);
	for (unsigned i = 0; i < transfer_count; i++) {
		int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
		while (kvt_transfer_wait(transfers[i], KVI_SECOND) != KVT_OK)
			require(kvi_clock_now() < deadline_ns);
		kvt_transfer_free(transfers[i]);
		done_count++;
	}
	transfer_count = 0;
	while (closer_count > 0)
		require(pthread_join(closers[--closer_count], NULL) == 0);
	for (unsigned i = 0; i < TAGS; i++) {
		kvt_kv_close(far_kvs[i]);
		far_kvs[i] = NULL;
	}
	kvt_remote_close(near_remote);
	kvt_remote_close(far_remote);
	kvt_export_close(far_export);
	kvt_export_close(near_export);
	kvt_conn_close(near_conn);
	kvt_conn_close(far_conn);
}

static void take_events(struct kvt_engine *engine)
{
	struct kvt_event *event;
	while (kvt_engine_get_event(engine, &event) == KVT_OK)
		kvt_event_free(event);
}

static void expect_moved(struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	int64_t deadline_ns = kvi_deadline_after(INPUT_NS);
	while (kvt_transfer_wait(transfer, KVI_SECOND) != KVT_OK)
		require(kvi_clock_now() < deadline_ns);
	require(kvt_transfer_get_result(transfer, &result) == KVT_OK && result.err == KVT_OK);
	kvt_transfer_free(transfer);
}

/* The far engine's other peer still sends. */
static void pay_visit(void)
{
	unsigned long said = visits++, heard = 0;
	struct kvt_send_request send = KVT_SEND_REQUEST_INIT;
	struct kvt_recv_request recv = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *sent, *received;
	send.base = &said;
	recv.base = &heard;
	send.len = recv.len = sizeof(said);
	require(kvt_recv_start(visit_kvs[1], &recv, &received, NULL) == KVT_OK);
	require(kvt_send_start(visit_kvs[0], &send, &sent, NULL) == KVT_OK);
	expect_moved(sent);
	expect_moved(received);
	require(said == heard);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static unsigned long inputs;
	struct input input = { bytes, len };
	if (near_engine == NULL)
		set_up();
	if (len < 2)
		return 0;

	uint8_t work = take_byte(&input);
	open_connection((work & WORK_SUMS) != 0);
	start_work(work);
	for (unsigned i = 0; i < MESSAGES_MAX && input.left > 0; i++)
		do_one(&input);
	await_reaction();
	close_connection();
	require(guarded_holds(&far_memory) && guarded_holds(&large) && guarded_holds(&small));
	require(guarded_holds(&near_memory));
	take_events(near_engine);
	take_events(far_engine);
	if (++inputs % VISIT_EVERY == 0)
		pay_visit();
	return 0;
}

/* ---- seeds, changes, the end ---- */

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t room, unsigned int seed)
{
	if (seed % 4 != 0 || len < 2)
		return LLVMFuzzerMutate(bytes, len, room);
	seed /= 4;
	size_t at = 1 + seed / 2 % (len - 1);
	bytes[at] = (uint8_t)(seed % 2 == 0 ? seed % DO_COUNT : seed);
	return len;
}

void fuzz_add_seeds(void (*add)(const uint8_t *bytes, size_t len))
{
	/* Each type, with each kind of number, while everything is under way. */
	for (unsigned type = 0; type < DO_COUNT; type++) {
		for (unsigned kind = 0; kind < 8; kind++) {
			uint8_t n = (uint8_t)kind;
			uint8_t message[] = { 0x3f, (uint8_t)type, 1, n, n, n, 1, n, n, n };
			add(message, sizeof(message));
		}
	}
	/* The same type again and again; and all types in turn. */
	for (unsigned type = 0; type < DO_COUNT; type++) {
		uint8_t message[1 + 8 * 6] = { 0x3f };
		uint8_t all[1 + 6 * DO_COUNT] = { 0x3f };
		for (unsigned i = 0; i < 8; i++)
			message[1 + 6 * i] = (uint8_t)type;
		for (unsigned i = 0; i < DO_COUNT; i++)
			all[1 + 6 * i] = (uint8_t)((type + i) % DO_COUNT);
		add(message, sizeof(message));
		add(all, sizeof(all));
	}
}

void fuzz_finish(void)
{
	struct guarded *memories[] = { &near_memory, &far_memory, &large, &small };
	struct kvt_stats stats = KVT_STATS_INIT;
	pay_visit();
	for (unsigned i = 0; i < 2; i++) {
		kvt_kv_close(visit_kvs[i]);
		kvt_conn_close(visit_conns[i]);
	}
	kvt_pool_close(near_pool);
	kvt_pool_close(far_pool);
	kvt_engine_get_stats(far_engine, &stats);
	require(stats.connections == 0 && stats.transfers == 0 && stats.registrations == 0);
	kvt_engine_close(near_engine);
	kvt_engine_close(far_engine);
	kvt_engine_close(visitor);
	for (unsigned i = 0; i < 4; i++)
		guarded_free(memories[i]);
	require(fake_is_empty());
	require(failing_alloc_get_live() == live_before);
	printf("lanes: %lu messages said, %lu connections refused, %lu transfers ended, %lu "
	       "messages of another peer came\n",
	       message_count, refused_count, done_count, visits);
}
