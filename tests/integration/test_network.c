/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_network.c - two processes in network namespaces of their own, with a cable between them that is
 * pulled: tcp never says so, both ends must find out. Needs root and ip(8); the namespaces go with their
 * processes.
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

#define CALLER_HOST "10.99.7.1"
#define SERVER_HOST "10.99.7.2"
#define INTERFACE "kvt0" /* at both ends */

enum { LARGE_LEN = 512 * MIB, IDLE_LEN = 4096 };

static size_t get_len(bool is_idle)
{
	return is_idle ? IDLE_LEN : get_share(LARGE_LEN);
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

/* A namespace, and an engine there once the test has put the cable in. */
static struct kvt_engine *enter_network(struct peer *test, const char *host)
{
	static const char *const interfaces[] = { INTERFACE };
	struct kvt_engine_config config = make_watchful_config();
	must(unshare(CLONE_NEWNET) == 0, "%s", strerror(errno));
	peer_tell(test, 0);
	peer_hear(test);
	must(set_link("lo", true) && set_address(INTERFACE, host) && set_link(INTERFACE, true),
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
	must(is_within(pulled_ns, LOST_AFTER_NS + 3 * SECOND / 2), "too late");
}

static void play_caller(struct peer *test, const void *arg)
{
	bool is_idle = *(const bool *)arg;
	size_t len = get_len(is_idle);
	uint8_t *bytes = make_filled(len, 1);
	struct kvt_engine *engine = enter_network(test, CALLER_HOST);
	uint16_t port = (uint16_t)peer_hear(test);
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = NULL;
		struct kvt_error error = { .code = KVT_OK };
		enum kvt_err err =
			kvt_conn_open(engine, SERVER_HOST, port, PATIENCE_NS, &conn, &error);
		must(err == KVT_OK, "no connection: %s", error.text);
		struct kvt_kv *kv = open_kv(conn, TAG);
		send_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			uint64_t before = get_stats(engine).segments;
			struct kvt_transfer *transfer = is_idle ? start_recv(kv, NULL, SIZE_MAX)
								: start_send(kv, bytes, len);
			while (!is_idle && get_stats(engine).segments < before + 16)
				must(!kvt_transfer_is_done(transfer), "the message has come and "
								      "gone");
			must(set_link(INTERFACE, false), "%s", strerror(errno));
			int64_t pulled_ns = get_time_ns();
			peer_tell(test, (uint64_t)pulled_ns);
			expect_loss(conn, transfer, pulled_ns);
			peer_tell(test, 0);
			peer_hear(test); /* both ends know */
			must(set_link(INTERFACE, true), "%s", strerror(errno));
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
	}
	free(bytes);
	kvt_engine_close(engine);
}

static void play_server(struct peer *test, const void *arg)
{
	bool is_idle = *(const bool *)arg;
	size_t len = get_len(is_idle);
	uint8_t *bytes = make_filled(len, 0);
	struct kvt_engine *engine = enter_network(test, SERVER_HOST);
	peer_tell(test, kvt_engine_get_port(engine));
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = accept_from(engine);
		struct kvt_kv *kv = open_kv(conn, TAG);
		recv_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			struct kvt_transfer *transfer = start_recv(kv, is_idle ? NULL : bytes, len);
			expect_loss(conn, transfer, (int64_t)peer_hear(test));
			put_canary(bytes, len);
			peer_tell(test, 0);
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
	}
	must(is_idle || holds_only(bytes, len, CANARY), "written after the receive had "
							"ended");
	free(bytes);
	kvt_engine_close(engine);
}

START_TEST(a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again)
{
	static const bool is_idle[] = { true, false };
	struct peer caller, server;
	char command[200];
	peer_start(&caller, play_caller, &is_idle[_i]);
	peer_start(&server, play_server, &is_idle[_i]);
	peer_hear(&caller);
	peer_hear(&server);
	snprintf(command, sizeof(command),
		 "ip link add " INTERFACE " netns %d type veth peer name " INTERFACE " netns %d",
		 caller.pid, server.pid);
	must(system(command) == 0, "no cable");
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
	if (strcmp(get_interface(), "lo") != 0)
		printf("SKIP: peers in two network namespaces: %s cannot be in both\n",
		       get_interface());
	else if (can_make_networks())
		tcase_add_loop_test(
			tests,
			a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again, 0,
			2);
	else
		puts("SKIP: peers in two network namespaces: it takes root and ip(8)");
	return tests;
}
