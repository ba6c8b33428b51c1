/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_network.c - two processes with a cable between them that is pulled: tcp never says so, both ends
 * must find out. Each is in a network namespace of its own, which needs root and ip(8) and goes with its
 * process. Or the cable is there, as on RDMA devices that know no namespaces: KVT_TEST_CABLE has the
 * addresses of its ends, and the interface whose link is taken down to pull it.
 */
#define _GNU_SOURCE 1 /* unshare */
#include "bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTERFACE "kvt0" /* at both ends, in namespaces */

struct cable {
	char caller_host[32];
	char server_host[32];
	char link[32];
	bool is_there;
};

static struct cable get_cable(void)
{
	struct cable cable = { "10.99.7.1", "10.99.7.2", INTERFACE, false };
	const char *text = getenv("KVT_TEST_CABLE");
	if (text != NULL)
		cable.is_there = sscanf(text, "%31s %31s %31s", cable.caller_host,
					cable.server_host, cable.link) == 3;
	return cable;
}

/* What is under way when it is pulled. */
enum work { IDLE, SENDING, READING, WORKS };

enum { LARGE_LEN = 512 * MIB, IDLE_LEN = MIB, BLOCK_LEN = MIB };

static size_t get_len(enum work work)
{
	return work == IDLE ? IDLE_LEN : get_share(LARGE_LEN);
}

/* ---- what is read ---- */

static struct kvt_pool *open_pool(struct kvt_engine *engine, uint8_t *memory, size_t len)
{
	struct kvt_extent extent = { memory, len / BLOCK_LEN, BLOCK_LEN };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool = NULL;
	config.extents = &extent;
	config.extent_count = 1;
	config.block_len = BLOCK_LEN;
	must(kvt_pool_open(engine, &config, &pool, NULL) == KVT_OK, "no pool");
	return pool;
}

static struct kvt_transfer *start_read(struct kvt_conn *conn, struct kvt_pool *pool, size_t len)
{
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_remote *remote = NULL;
	uint64_t zero = 0, all = len;
	must(kvt_remote_find(conn, "pool", PATIENCE_NS, &remote, NULL) == KVT_OK, "no remote");
	request.direction = KVT_READ;
	request.pool = pool;
	request.remote = remote;
	request.local_off = request.remote_off = &zero;
	request.lens = &all;
	request.count = 1;
	must(kvt_spans_start(&request, &transfer, NULL) == KVT_OK, "no read");
	kvt_remote_close(remote);
	return transfer;
}

/* ---- interfaces ---- */

static bool set_address(const char *name, const char *host)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	address->sin_family = AF_INET;
	inet_pton(AF_INET, host, &address->sin_addr);
	bool is_set = ioctl(fd, SIOCSIFADDR, &request) == 0;
	close(fd);
	return is_set;
}

static bool set_link(const char *name, bool up)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	bool is_set = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	is_set = is_set && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return is_set;
}

/* In a child: it has a namespace of its own, and ip(8) makes a cable there. */
static bool can_make_networks(void)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) == 0 && system("ip link add kvt0 type veth peer name "
							   "kvt1 >/dev/null 2>&1") == 0
			      ? 0
			      : 1);
	int status = 1;
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* ---- the two ends ---- */

/* An engine at one end of the cable: in a namespace, once the test has put the cable in. */
static struct kvt_engine *enter_network(struct peer *test, const char *host, bool is_there)
{
	const char *const interfaces[] = { is_there ? host : INTERFACE };
	struct kvt_engine_config config = make_watchful_config();
	must(is_there || unshare(CLONE_NEWNET) == 0, "%s", strerror(errno));
	peer_tell(test, 0);
	peer_hear(test);
	must(is_there || (set_link("lo", true) && set_address(INTERFACE, host) &&
			  set_link(INTERFACE, true)),
	     "%s", strerror(errno));
	config.interfaces = interfaces;
	config.ncpus = 2;
	config.nconn_per_cpu = 2;
	return open_engine(&config);
}

static void expect_loss(struct kvt_conn *conn, struct kvt_transfer *transfer, int64_t pulled_ns)
{
	finish(transfer, KVT_E_PEER_LOST);
	expect_ended(conn, KVT_E_PEER_LOST);
	/* A device without a link takes its time to give a queue pair back (Soft-RoCE: 2 s, seen). */
	int64_t limit_ns = is_rdma() ? 5 * SECOND : LOST_AFTER_NS + 3 * SECOND / 2;
	must(is_within(pulled_ns, limit_ns), "too late: %lld ms",
	     (long long)((get_time_ns() - pulled_ns) / MS));
}

static void play_caller(struct peer *test, const void *arg)
{
	enum work work = *(const enum work *)arg;
	size_t len = get_len(work);
	uint8_t *bytes = make_filled(len, 1);
	struct cable cable = get_cable();
	struct kvt_engine *engine = enter_network(test, cable.caller_host, cable.is_there);
	uint16_t port = (uint16_t)peer_hear(test);
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = NULL;
		struct kvt_error error = { .code = KVT_OK };
		enum kvt_err err =
			kvt_conn_open(engine, cable.server_host, port, PATIENCE_NS, &conn, &error);
		must(err == KVT_OK, "no connection: %s", error.text);
		struct kvt_kv *kv = open_kv(conn, TAG);
		send_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			uint64_t before = get_stats(engine).segments;
			struct kvt_pool *pool = work == READING ? open_pool(engine, bytes, len)
								: NULL;
			struct kvt_transfer *transfer =
				work == IDLE	  ? start_recv(kv, NULL, SIZE_MAX)
				: work == READING ? start_read(conn, pool, len)
						  : start_send(kv, bytes, len);
			while (work != IDLE && get_stats(engine).segments < before + 16)
				must(!kvt_transfer_is_done(transfer), "the message has come and "
								      "gone");
			must(set_link(cable.link, false), "%s", strerror(errno));
			int64_t pulled_ns = get_time_ns();
			peer_tell(test, (uint64_t)pulled_ns);
			expect_loss(conn, transfer, pulled_ns);
			kvt_pool_close(pool);
			put_canary(bytes, len);
			peer_tell(test, 0);
			peer_hear(test); /* both ends know */
			must(set_link(cable.link, true), "%s", strerror(errno));
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
	}
	must(work != READING || holds_only(bytes, len, CANARY), "read into after the read had "
								"ended");
	free(bytes);
	kvt_engine_close(engine);
}

static void play_server(struct peer *test, const void *arg)
{
	enum work work = *(const enum work *)arg;
	size_t len = get_len(work);
	uint8_t *bytes = make_filled(len, 0);
	struct cable cable = get_cable();
	struct kvt_engine *engine = enter_network(test, cable.server_host, cable.is_there);
	peer_tell(test, kvt_engine_get_port(engine));
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = accept_from(engine);
		struct kvt_kv *kv = open_kv(conn, TAG);
		recv_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			struct kvt_pool *pool = open_pool(engine, bytes, len);
			struct kvt_export *exported = NULL;
			if (work == READING)
				must(kvt_export_open(conn, pool, KVT_ACCESS_READ, "pool", &exported,
						     NULL) == KVT_OK,
				     "no export");
			struct kvt_transfer *transfer =
				start_recv(kv, work == SENDING ? bytes : NULL, len);
			expect_loss(conn, transfer, (int64_t)peer_hear(test));
			kvt_export_close(exported);
			kvt_pool_close(pool);
			put_canary(bytes, len);
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
		if (round == 0)
			peer_tell(test, 0); /* and the caller calls again */
	}
	must(work == IDLE || holds_only(bytes, len, CANARY), "written after the receive had "
							     "ended");
	free(bytes);
	kvt_engine_close(engine);
}

START_TEST(a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again)
{
	enum work work = (enum work)_i;
	struct peer caller, server;
	char command[200];
	peer_start(&caller, play_caller, &work);
	peer_start(&server, play_server, &work);
	peer_hear(&caller);
	peer_hear(&server);
	snprintf(command, sizeof(command),
		 "ip link add " INTERFACE " netns %d type veth peer name " INTERFACE " netns %d",
		 caller.pid, server.pid);
	must(get_cable().is_there || system(command) == 0, "no cable");
	peer_tell(&caller, 0);
	peer_tell(&server, 0);

	peer_tell(&caller, peer_hear(&server)); /* the port */
	peer_tell(&server, peer_hear(&caller)); /* when the cable was pulled */
	peer_hear(&caller);
	peer_hear(&server);
	peer_tell(&caller, 0);
	peer_finish(&caller);
	peer_finish(&server);
}
END_TEST

TCase *make_network_tests(void)
{
	TCase *tests = tcase_create("network");
	if (!get_cable().is_there && strcmp(get_interface(), "lo") != 0)
		printf("SKIP: peers in two network namespaces: %s cannot be in both\n",
		       get_interface());
	else if (get_cable().is_there || can_make_networks())
		tcase_add_loop_test(
			tests,
			a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again, 0,
			WORKS);
	else
		puts("SKIP: peers in two network namespaces: it takes root and ip(8)");
	return tests;
}
