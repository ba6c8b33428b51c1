/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_path_raw.c - peers that are no engines and speak of the local path: they claim what is not so, say nothing, or
 * die in the middle. Without keys, so that frames can be written by hand (docs/protocol.md 2.4).
 */
#include "check_path.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/core/secrets.h"
#include "engine/tagged/tag_queue.h"
#include "fabric/fabric.h"
#include "integration/raw.h"
#include "wire/wire.h"

enum { RECORD_ROOM = 4 * KIB, LANE_LEN = 2, MANY_LANES = 256, TRIES = 10 };

/* ---- frames ---- */

static void say(int fd, const struct kvi_frame *frames, size_t count)
{
	uint8_t record[RECORD_ROOM];
	size_t len = KVI_RECORD_HEADER_LEN;
	for (size_t i = 0; i < count; i++)
		len += kvi_frame_encode(&frames[i], record + len, sizeof(record) - len);
	kvi_record_put_len(len - KVI_RECORD_HEADER_LEN, record);
	raw_send(fd, record, len);
}

/* What the other side says next in records, frame by frame. */
struct hearing {
	int fd;
	size_t len, used;
	uint8_t bytes[RECORD_ROOM];
};

static bool hear(struct hearing *hearing, struct kvi_frame *frame)
{
	uint8_t header[KVI_RECORD_HEADER_LEN];
	if (hearing->used == hearing->len) {
		hearing->used = hearing->len = 0;
		if (raw_recv(hearing->fd, header, sizeof(header), PATIENCE_NS) != sizeof(header))
			return false;
		size_t len = kvi_record_get_len(header);
		must(len <= sizeof(hearing->bytes), "a record of %zu bytes", len);
		if (raw_recv(hearing->fd, hearing->bytes, len, PATIENCE_NS) != len)
			return false;
		hearing->len = len;
	}
	const uint8_t *at = hearing->bytes + hearing->used;
	size_t len = kvi_frame_get_len(at, hearing->len - hearing->used);
	must(len > 0 && kvi_frame_decode(at, len, frame) == KVT_OK, "no frame");
	hearing->used += len;
	return true;
}

static void derive(const char *label, const uint8_t session[KVI_SESSION_LEN], uint8_t secret[32])
{
	static const uint8_t zeros[32];
	uint8_t labelled[KVI_SESSION_LEN + 8];
	size_t len = strlen(label);
	memcpy(labelled, session, KVI_SESSION_LEN);
	memcpy(labelled + KVI_SESSION_LEN, label, len);
	crypto_generichash(secret, 32, labelled, KVI_SESSION_LEN + len, zeros, sizeof(zeros));
}

static void prove_host(const uint8_t session[KVI_SESSION_LEN], uint8_t proof[KVI_HOST_PROOF_LEN])
{
	uint8_t secret[32], id[KVI_HOST_ID_LEN];
	derive("host", session, secret);
	must(kvi_host_read_id(id) == sizeof(id), "no boot id");
	crypto_generichash(proof, KVI_HOST_PROOF_LEN, id, sizeof(id), secret, sizeof(secret));
}

/* ---- servers ---- */

enum manner {
	SILENT,	  /* its socket takes the call, and says nothing more */
	ABSENT,	  /* nobody has that socket */
	HANGS_UP, /* it takes the call and closes it */
	BABBLES,  /* it answers something else */
	DIES,	  /* it takes the call, and is killed */
	LIES,	  /* it proves another host */
	STRAYS,	  /* it names a socket that is no engine's */
	MANNERS,
};

static const char *const words[MANNERS] = {
	[SILENT] = "did not come in time", [ABSENT] = "no process of this network namespace",
	[HANGS_UP] = "the peer",	   [BABBLES] = "the peer could make no lane",
	[LIES] = "another host",	   [STRAYS] = "none of a process of this host",
};

static int listen_locally(enum manner manner, struct kvi_wire_address *address)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	int name_len = snprintf(local.sun_path + 1, sizeof(local.sun_path) - 1, "%s-%d",
				manner == STRAYS ? "stray" : "kvtrans", getpid());
	address->len = (uint8_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)name_len);
	memcpy(address->address, &local, address->len);
	if (manner == ABSENT)
		return -1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must(fd >= 0 && bind(fd, (struct sockaddr *)&local, address->len) == 0 &&
		     listen(fd, MANY_LANES) == 0,
	     "%s", strerror(errno));
	return fd;
}

/* Take the call of a client, with HELLO. */
static void take_call(struct hearing *hearing, int listener)
{
	uint8_t opening[KVI_OPENING_LEN];
	struct kvi_frame frame;
	hearing->fd = raw_accept(listener);
	must(raw_recv(hearing->fd, opening, sizeof(opening), PATIENCE_NS) == sizeof(opening), "no "
											      "OPEN"
											      "IN"
											      "G");
	must(hear(hearing, &frame) && frame.type == KVI_FRAME_HELLO, "no HELLO");
	must(frame.hello.provider_count == 2 && strcmp(frame.hello.providers[1], "local") == 0,
	     "it does not take local lanes");
}

static void offer(int fd, enum manner manner, const struct kvi_wire_address *local, uint16_t port,
		  uint16_t lane_count)
{
	struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct kvi_frame frames[] = {
		{ .type = KVI_FRAME_WELCOME,
		  .welcome = { .version = 1,
			       .lane_count = lane_count,
			       .eager_len = 64 * KIB,
			       .rx_count = 32,
			       .provider = "tcp" } },
		{ .type = KVI_FRAME_NEAR, .near.rail = *local },
		{ .type = KVI_FRAME_LANES, .lanes.rail_count = 1 },
	};
	tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	frames[2].lanes.rails[0].len = sizeof(tcp);
	memcpy(frames[2].lanes.rails[0].address, &tcp, sizeof(tcp));
	memset(frames[0].welcome.session, 7, KVI_SESSION_LEN);
	prove_host(frames[0].welcome.session, frames[1].near.proof);
	frames[1].near.proof[0] ^= manner == LIES;
	say(fd, frames, sizeof(frames) / sizeof(frames[0]));
}

static void play_server(struct peer *test, const void *arg)
{
	enum manner manner = *(const enum manner *)arg;
	struct kvi_wire_address local;
	struct hearing hearing = { .len = 0 };
	struct kvi_frame frame;
	uint16_t port;
	int listener = raw_listen(&port), local_fd = listen_locally(manner, &local);
	int lane = -1;
	peer_tell(test, port);
	take_call(&hearing, listener);
	offer(hearing.fd, manner, &local, port, 1);
	if (manner == SILENT || manner == HANGS_UP || manner == BABBLES || manner == DIES)
		lane = raw_accept(local_fd);
	if (manner == DIES)
		kill(getpid(), SIGKILL);
	if (manner == BABBLES)
		raw_send(lane, "babble", 6);
	if (manner == HANGS_UP)
		close(lane);
	must(hear(&hearing, &frame) && frame.type == KVI_FRAME_FAR, "no FAR");
	must(strstr(frame.far.text, words[manner]) != NULL, "it says: %s", frame.far.text);
	close(hearing.fd); /* and its lane over the network comes to nothing */
	close(listener);
}

START_TEST(a_server_whose_local_lanes_do_not_come_is_called_over_the_network)
{
	enum manner manner = (enum manner)_i;
	struct kvt_engine_config config = make_path_config(NULL);
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn;
	struct peer server;
	peer_start(&server, play_server, &manner);
	config.insecure = true;
	struct kvt_engine *engine = open_engine(&config);
	int fds = count_fds();
	uint16_t port = (uint16_t)peer_hear(&server);
	int64_t since_ns = get_time_ns();
	enum kvt_err err = kvt_conn_open(engine, get_host(), port, 0, &conn, &error);
	ck_assert_msg(err == KVT_E_UNREACHABLE, "%s: %s", kvt_err_get_name(err), error.text);
	ck_assert(is_within(since_ns, 5 * SECOND));
	if (manner == DIES)
		peer_await_death(&server);
	else
		peer_finish(&server);
	expect_fds(fds - 1); /* the server's */
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

/* It hangs up on the first lane, and tells how many came. */
static void play_counting_server(struct peer *test, const void *arg)
{
	struct kvi_wire_address local;
	struct hearing hearing = { .len = 0 };
	struct kvi_frame frame;
	uint16_t port;
	uint64_t count = 1;
	int listener = raw_listen(&port), local_fd = listen_locally(HANGS_UP, &local);
	(void)arg;
	peer_tell(test, port);
	take_call(&hearing, listener);
	offer(hearing.fd, HANGS_UP, &local, port, MANY_LANES);
	close(raw_accept(local_fd));
	must(hear(&hearing, &frame) && frame.type == KVI_FRAME_FAR, "no FAR");
	while (poll(&(struct pollfd){ local_fd, POLLIN, 0 }, 1, 0) == 1) {
		close(raw_accept(local_fd));
		count++;
	}
	peer_tell(test, count);
	close(hearing.fd);
	close(listener);
}

START_TEST(no_more_local_lanes_are_made_when_one_has_failed)
{
	struct kvt_engine_config config = make_path_config(NULL);
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn;
	uint64_t count = MANY_LANES;
	config.insecure = true;
	config.nconn_per_cpu = MANY_LANES;
	/* All may be made before the first has failed, where the CPU is another's. */
	for (unsigned i = 0; i < TRIES && count == MANY_LANES; i++) {
		struct peer server;
		peer_start(&server, play_counting_server, NULL);
		struct kvt_engine *engine = open_engine(&config);
		ck_assert_int_eq(kvt_conn_open(engine, get_host(), (uint16_t)peer_hear(&server), 0,
					       &conn, &error),
				 KVT_E_UNREACHABLE);
		count = peer_hear(&server);
		peer_finish(&server);
		kvt_engine_close(engine);
	}
	ck_assert_uint_lt(count, MANY_LANES);
}
END_TEST

/* As one on another host, where another provider serves: local is all that both have. */
static void play_other_host(struct peer *test, const void *arg)
{
	struct hearing hearing = { .len = 0 };
	struct kvi_frame frame, frames[] = {
		{ .type = KVI_FRAME_WELCOME,
		  .welcome = { .version = 1,
			       .lane_count = 1,
			       .eager_len = 64 * KIB,
			       .rx_count = 32,
			       .provider = "local" } },
		{ .type = KVI_FRAME_LANES, .lanes.rail_count = 1 },
	};
	uint16_t port;
	int listener = raw_listen(&port);
	(void)arg;
	listen_locally(ABSENT, &frames[1].lanes.rails[0]);
	peer_tell(test, port);
	take_call(&hearing, listener);
	say(hearing.fd, frames, sizeof(frames) / sizeof(frames[0]));
	must(hear(&hearing, &frame) && frame.type == KVI_FRAME_REFUSE &&
		     frame.ending.code == KVT_E_NO_PROVIDER,
	     "no REFUSE");
	close(hearing.fd);
	close(listener);
}

START_TEST(who_has_but_local_in_common_with_an_engine_elsewhere_has_no_provider)
{
	struct kvt_engine_config config = make_path_config(NULL);
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn;
	struct peer server;
	peer_start(&server, play_other_host, NULL);
	config.insecure = true;
	struct kvt_engine *engine = open_engine(&config);
	ck_assert_int_eq(kvt_conn_open(engine, get_host(), (uint16_t)peer_hear(&server), 0, &conn,
				       &error),
			 KVT_E_NO_PROVIDER);
	ck_assert_ptr_nonnull(strstr(error.text, "another provider in common"));
	peer_finish(&server);
	kvt_engine_close(engine);
}
END_TEST

/* ---- clients ---- */

/* Say HELLO with so many of the providers; hear WELCOME. */
static void call(struct hearing *hearing, uint16_t port, uint8_t provider_count,
		 struct kvi_frame *welcome)
{
	uint8_t opening[KVI_OPENING_LEN];
	struct kvi_frame frame = { .type = KVI_FRAME_OPENING, .opening.version = 1 };
	*hearing = (struct hearing){ .fd = raw_connect(port) };
	raw_send(hearing->fd, opening, kvi_frame_encode(&frame, opening, sizeof(opening)));
	frame = (struct kvi_frame){ .type = KVI_FRAME_HELLO,
				    .hello = { .version_min = 1,
					       .version_max = 1,
					       .lane_count = LANE_LEN,
					       .eager_len = 64 * KIB,
					       .rx_count = 32,
					       .provider_count = provider_count,
					       .providers = { "tcp", "local" } } };
	say(hearing->fd, &frame, 1);
	must(hear(hearing, welcome) && welcome->type == KVI_FRAME_WELCOME, "no WELCOME");
	must(strcmp(welcome->welcome.provider, "tcp") == 0, "%s", welcome->welcome.provider);
}

static struct kvt_engine *open_insecure(void)
{
	struct kvt_engine_config config = make_path_config(NULL);
	config.insecure = true;
	return open_engine(&config);
}

static void expect_refusal(struct hearing *hearing)
{
	struct kvi_frame frame;
	ck_assert(hear(hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_REFUSE);
	ck_assert_int_eq(frame.ending.code, KVT_E_PROTOCOL);
}

START_TEST(a_client_that_does_not_name_the_local_path_is_offered_none)
{
	struct kvt_engine *engine = open_insecure();
	struct hearing hearing;
	struct kvi_frame frame;
	call(&hearing, kvt_engine_get_port(engine), 1, &frame);
	ck_assert(hear(&hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_LANES);
	frame = (struct kvi_frame){ .type = KVI_FRAME_FAR };
	say(hearing.fd, &frame, 1);
	expect_refusal(&hearing);
	close(hearing.fd);
	kvt_engine_close(engine);
}
END_TEST

START_TEST(a_client_is_offered_the_local_path_with_a_proof_and_may_decline_it_once)
{
	struct kvt_engine *engine = open_insecure();
	struct hearing hearing;
	struct kvi_frame welcome, frame;
	uint8_t proof[KVI_HOST_PROOF_LEN];
	call(&hearing, kvt_engine_get_port(engine), 2, &welcome);
	ck_assert(hear(&hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_NEAR);
	prove_host(welcome.welcome.session, proof);
	ck_assert_mem_eq(frame.near.proof, proof, sizeof(proof));
	ck_assert(hear(&hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_LANES);
	frame = (struct kvi_frame){ .type = KVI_FRAME_FAR, .far.text = "for a reason" };
	say(hearing.fd, &frame, 1);
	say(hearing.fd, &frame, 1);
	expect_refusal(&hearing);
	close(hearing.fd);
	kvt_engine_close(engine);
}
END_TEST

START_TEST(a_client_that_is_silent_on_trial_is_given_up_in_time_and_others_come_meanwhile)
{
	struct kvt_engine *engine = open_insecure(), *other = open_insecure();
	struct hearing hearing;
	struct kvi_frame frame;
	int64_t since_ns = get_time_ns();
	call(&hearing, kvt_engine_get_port(engine), 2, &frame);
	struct kvt_conn *conn = connect_to(other, kvt_engine_get_port(engine));
	struct kvt_conn *peer = accept_from(engine);
	expect_path(conn, "local", NULL);
	expect_path(peer, "local", NULL);
	ck_assert(raw_await_end(hearing.fd, PATIENCE_NS));
	ck_assert(is_within(since_ns, 5 * SECOND));
	close(hearing.fd);
	kvt_conn_close(conn);
	kvt_conn_close(peer);
	kvt_engine_close(engine);
	kvt_engine_close(other);
}
END_TEST

/* A lane on trial, made by the fabric without an engine. */
struct trial {
	struct kvi_rail *rail;
	struct kvi_cq *cq;
	struct kvi_lane *lane;
};

static void open_trial(struct trial *trial, const struct kvi_welcome *welcome,
		       const struct kvi_wire_address *to, unsigned index)
{
	struct kvi_lane_hello hello = { .index = (uint16_t)index };
	struct kvi_secrets secrets;
	struct kvi_lane_event event;
	uint8_t data[KVI_LANE_HELLO_LEN];
	memcpy(hello.session, welcome->session, KVI_SESSION_LEN);
	derive("lanes", welcome->session, secrets.lanes);
	kvi_secrets_get_token(&secrets, hello.index, hello.token);
	kvi_lane_hello_encode(&hello, data);
	ck_assert_int_eq(kvi_rail_open("lo", "local", &trial->rail, NULL), KVT_OK);
	ck_assert_int_eq(kvi_cq_open(trial->rail, &trial->cq, NULL), KVT_OK);
	ck_assert_int_eq(kvi_lane_open(trial->cq, to->address, to->len, NULL, trial, &trial->lane,
				       NULL),
			 KVT_OK);
	ck_assert_int_eq(kvi_lane_connect(trial->lane, data, sizeof(data), NULL), KVT_OK);
	int64_t since_ns = get_time_ns();
	while (kvi_cq_poll_events(trial->cq, &event, 1) == 0)
		ck_assert(is_within(since_ns, PATIENCE_NS));
	ck_assert_int_eq(event.kind, KVI_LANE_CONNECTED);
}

static void close_trial(struct trial *trial)
{
	kvi_lane_close(trial->lane);
	kvi_cq_close(trial->cq);
	kvi_rail_close(trial->rail);
}

START_TEST(a_client_that_sends_on_a_lane_on_trial_breaks_the_protocol)
{
	struct kvt_engine *engine = open_insecure();
	struct hearing hearing;
	struct kvi_frame welcome, frame;
	struct trial trial;
	uint8_t packet[128];
	struct kvi_message message = { .type = KVI_MESSAGE_EAGER, .tag = 7 };
	call(&hearing, kvt_engine_get_port(engine), 2, &welcome);
	ck_assert(hear(&hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_NEAR);
	open_trial(&trial, &welcome.welcome, &frame.near.rail,
		   kvi_tag_queue_get_home(message.tag, welcome.welcome.lane_count));
	size_t len = kvi_message_encode(&message, packet, sizeof(packet));
	ck_assert_int_eq(kvi_lane_inject(trial.lane, packet, len), KVT_OK);
	ck_assert(hear(&hearing, &frame));
	ck_assert_int_eq(frame.type, KVI_FRAME_LANES);
	expect_refusal(&hearing);
	close_trial(&trial);
	close(hearing.fd);
	kvt_engine_close(engine);
}
END_TEST

void add_raw_path_tests(TCase *tests)
{
	tcase_add_loop_test(tests,
			    a_server_whose_local_lanes_do_not_come_is_called_over_the_network, 0,
			    MANNERS);
	tcase_add_test(tests, no_more_local_lanes_are_made_when_one_has_failed);
	tcase_add_test(tests, who_has_but_local_in_common_with_an_engine_elsewhere_has_no_provider);
	tcase_add_test(tests, a_client_that_does_not_name_the_local_path_is_offered_none);
	tcase_add_test(tests,
		       a_client_is_offered_the_local_path_with_a_proof_and_may_decline_it_once);
	tcase_add_test(tests, a_client_that_sends_on_a_lane_on_trial_breaks_the_protocol);
	tcase_add_test(
		tests,
		a_client_that_is_silent_on_trial_is_given_up_in_time_and_others_come_meanwhile);
}
