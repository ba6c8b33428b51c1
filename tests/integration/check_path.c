/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_path.c - which path the lanes of a connection take when nobody says, between processes of one host that
 * find each other, and those that something stands between. Each meeting moves bytes, whatever the path.
 */
#define _GNU_SOURCE 1 /* unshare */
#include "check_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "integration/cable.h"
#include "support/runner.h"

enum { LEN = 3 * MIB + 5, BLOCK_LEN = 8 * KIB, BLOCKS = 64, ROUNDS = 100, NOBODY = 65534 };

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static const char key[] = "one key for all of these engines";

struct kvt_engine_config make_path_config(const char *provider)
{
	struct kvt_engine_config config = make_config();
	config.provider = provider;
	return config;
}

static struct kvt_engine_config make_keyed_config(const char *provider)
{
	struct kvt_engine_config config = make_path_config(provider);
	config.auth_key = key;
	config.auth_key_len = sizeof(key) - 1;
	return config;
}

void expect_path(const struct kvt_conn *conn, const char *path, const char *word)
{
	const char *reason;
	const char *found = kvt_conn_get_path(conn, &reason);
	must(strcmp(found, path) == 0, "the path is %s: %s", found, reason);
	must(strcmp(found, kvt_conn_get_path(conn, NULL)) == 0, "another path");
	must(word == NULL ? reason[0] == '\0' : strstr(reason, word) != NULL, "the reason is: %s",
	     reason);
}

/* ---- what stands between ---- */

static void opt_out(void)
{
	setenv("KVTRANS_LOCAL", "0", 1);
}

static void become_another_user(void)
{
	must(setuid(NOBODY) == 0, "%s", strerror(errno));
}

static void write_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", name,
	     strerror(errno));
	close(fd);
}

/* Of the same user, which it may read no more of the memory of. */
static void enter_user_namespace(void)
{
	char map[32];
	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	must(unshare(CLONE_NEWUSER) == 0, "%s", strerror(errno));
	write_text("/proc/self/uid_map", map);
}

/* Another kernel would tell another id. */
static void move_to_another_host(void)
{
	static const char id[] = "01234567-89ab-cdef-0123-456789abcdef\n";
	char name[] = "/tmp/kvt-boot-XXXXXX";
	int fd = mkstemp(name);
	must(fd >= 0 && write(fd, id, sizeof(id) - 1) == sizeof(id) - 1, "%s", strerror(errno));
	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		     mount(name, BOOT_ID, NULL, MS_BIND, NULL) == 0,
	     "%s", strerror(errno));
	close(fd);
	unlink(name);
}

/* It may be traced by none of its user from now on, so process_vm_readv(2) does not reach it: as where Yama's ptrace_scope
 * is 1. A new user id does that, too. */
static void refuse_to_be_traced(void)
{
	if (geteuid() == 0)
		become_another_user();
	must(prctl(PR_SET_DUMPABLE, 0) == 0, "%s", strerror(errno));
}

/* Where nobody else is seen. The process that was started stays outside, and ends as this one does. */
static void enter_pid_namespace(void)
{
	int status = 0;
	must(unshare(CLONE_NEWPID) == 0, "%s", strerror(errno));
	pid_t child = fork();
	must(child >= 0, "%s", strerror(errno));
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return;
	}
	must(waitpid(child, &status, 0) == child, "%s", strerror(errno));
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* A container as far as the network, which it shares: with a /proc of its own, and without shared memory. */
static void enter_container(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) == 0 &&
		     mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		     mount("none", "/dev/shm", "tmpfs", MS_RDONLY, NULL) == 0,
	     "%s", strerror(errno));
	enter_pid_namespace();
	must(mount("proc", "/proc", "proc", 0, NULL) == 0, "%s", strerror(errno));
}

/* Have a system call fail from now on, as seccomp profiles do; with a first argument of that value, or any (-1). */
static void forbid(uint32_t call, int first)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | (first < 0 ? BPF_JGE : BPF_JEQ) | BPF_K,
			 first < 0 ? 0 : (uint32_t)first, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
	     "%s", strerror(errno));
}

static void forbid_memfd(void)
{
	forbid(SYS_memfd_create, -1);
}

static void forbid_pulling(void)
{
	forbid(SYS_process_vm_readv, -1);
}

static void forbid_unix_sockets(void)
{
	forbid(SYS_socket, AF_UNIX);
}

/* ---- meetings ---- */

struct end {
	const char *provider;
	void (*prepare)(void); /* NULL: nothing */
	const char *word;      /* of its reason; NULL: it gives none */
};

struct meeting {
	const char *path; /* of both */
	struct end caller;
	struct end server;
};

static const struct meeting meetings[] = {
	{ "local", { NULL, NULL, NULL }, { NULL, NULL, NULL } },
	{ "local", { "local", NULL, NULL }, { NULL, NULL, NULL } },
	{ "local", { NULL, NULL, NULL }, { "local", NULL, NULL } },
	{ "tcp", { "tcp", NULL, "is named: tcp" }, { NULL, NULL, "the peer takes no local" } },
	{ "tcp", { NULL, NULL, "the peer offers no local" }, { "tcp", NULL, "is named: tcp" } },
	{ "tcp", { NULL, opt_out, "KVTRANS_LOCAL=0" }, { NULL, NULL, "the peer takes no local" } },
	{ "tcp", { NULL, NULL, "the peer offers no local" }, { NULL, opt_out, "KVTRANS_LOCAL=0" } },
	{ "local", { NULL, forbid_pulling, NULL }, { NULL, NULL, NULL } },
	{ "local", { NULL, NULL, NULL }, { NULL, forbid_pulling, NULL } },
	{ "local", { NULL, refuse_to_be_traced, NULL }, { NULL, refuse_to_be_traced, NULL } },
	/* The caller makes the memory of a lane. */
	{ "tcp", { NULL, forbid_memfd, "memfd_create" }, { NULL, NULL, "the peer says: memfd" } },
	{ "local", { NULL, NULL, NULL }, { NULL, forbid_memfd, NULL } },
	{ "tcp",
	  { NULL, forbid_unix_sockets, "Permission denied" },
	  { NULL, NULL, "the peer says: Permission denied" } },
	{ "tcp",
	  { NULL, NULL, "the peer offers no local" },
	  { NULL, forbid_unix_sockets, "Permission denied" } },
};

static const struct meeting root_meetings[] = {
	{ "tcp",
	  { NULL, become_another_user, "another user" },
	  { NULL, NULL, "the peer says: the peer's process belongs to another user" } },
	{ "tcp",
	  { NULL, NULL, "another user" },
	  { NULL, become_another_user, "the peer says: the peer's process belongs to another" } },
	{ "tcp",
	  { NULL, move_to_another_host, "another host" },
	  { NULL, NULL, "the peer says: the peer is on another host" } },
	{ "tcp",
	  { NULL, NULL, "another host" },
	  { NULL, move_to_another_host, "the peer says: the peer is on another host" } },
};

static const struct meeting container_meetings[] = {
	{ "local", { NULL, enter_pid_namespace, NULL }, { NULL, NULL, NULL } },
	{ "local", { NULL, NULL, NULL }, { NULL, enter_pid_namespace, NULL } },
	{ "local", { NULL, enter_pid_namespace, NULL }, { NULL, enter_pid_namespace, NULL } },
	{ "local", { NULL, enter_container, NULL }, { NULL, NULL, NULL } },
	{ "local", { NULL, enter_container, NULL }, { NULL, enter_container, NULL } },
};

static const struct meeting namespace_meetings[] = {
	{ "local", { NULL, enter_user_namespace, NULL }, { NULL, NULL, NULL } },
	{ "local", { NULL, NULL, NULL }, { NULL, enter_user_namespace, NULL } },
};

/* Messages both ways, and blocks of pools that the engines allocate, from one side. */
static void move_bytes(struct side *side, bool is_caller)
{
	struct kvt_pool *pool = open_pool(side->engine, NULL, BLOCK_LEN, BLOCKS);
	uint8_t *bytes = kvt_pool_get_base(pool, 0);
	side->kv = open_kv(side->conn, TAG);
	if (is_caller) {
		send_pattern(side->kv, LEN, 1);
		recv_pattern(side->kv, LEN, 2);
		struct kvt_remote *remote = find_remote(side->conn, "pool");
		fill_pattern(bytes, BLOCKS * BLOCK_LEN, 3);
		finish(start_span(KVT_WRITE, pool, remote, BLOCKS * BLOCK_LEN, 0), KVT_OK);
		memset(bytes, 0, BLOCKS * BLOCK_LEN);
		finish(start_span(KVT_READ, pool, remote, BLOCKS * BLOCK_LEN, 0), KVT_OK);
		must(holds_pattern(bytes, BLOCKS * BLOCK_LEN, 3), "other bytes were read");
		kvt_remote_close(remote);
		send_pattern(side->kv, 1, 4);
	} else {
		struct kvt_export *exported = export_pool(side->conn, pool, "pool");
		recv_pattern(side->kv, LEN, 1);
		send_pattern(side->kv, LEN, 2);
		recv_pattern(side->kv, 1, 4);
		must(holds_pattern(bytes, BLOCKS * BLOCK_LEN, 3), "other bytes were written");
		kvt_export_close(exported);
	}
	kvt_pool_close(pool);
}

static void meet(struct peer *test, const struct end *end, const char *path, bool is_caller)
{
	struct side side;
	struct kvt_engine_config config = make_keyed_config(end->provider);
	if (end->prepare != NULL)
		end->prepare();
	side.engine = open_engine(&config);
	if (is_caller) {
		side.conn = connect_to(side.engine, (uint16_t)peer_hear(test));
	} else {
		peer_tell(test, kvt_engine_get_port(side.engine));
		side.conn = accept_from(side.engine);
	}
	expect_path(side.conn, path, end->word);
	move_bytes(&side, is_caller);
	side_close(&side);
}

static void play_caller(struct peer *test, const void *arg)
{
	const struct meeting *meeting = arg;
	meet(test, &meeting->caller, meeting->path, true);
}

static void play_server(struct peer *test, const void *arg)
{
	const struct meeting *meeting = arg;
	meet(test, &meeting->server, meeting->path, false);
}

static void hold(const struct meeting *meeting)
{
	struct peer caller, server;
	peer_start(&caller, play_caller, meeting);
	peer_start(&server, play_server, meeting);
	peer_tell(&caller, peer_hear(&server));
	peer_finish(&caller);
	peer_finish(&server);
}

START_TEST(engines_of_one_host_find_the_local_path_where_both_want_it_and_nothing_stands_between)
{
	hold(&meetings[_i]);
}
END_TEST

START_TEST(another_user_or_another_host_is_reached_over_the_network)
{
	if (geteuid() != 0) {
		printf("SKIP: another user and another boot id take root\n");
		return;
	}
	hold(&root_meetings[_i]);
}
END_TEST

START_TEST(containers_that_share_a_network_are_reached_locally)
{
	if (geteuid() != 0) {
		printf("SKIP: namespaces of processes and of mounts take root\n");
		return;
	}
	hold(&container_meetings[_i]);
}
END_TEST

static bool may_make_user_namespaces(void)
{
	int status = 1;
	pid_t child = fork();
	if (child == 0)
		_exit(unshare(CLONE_NEWUSER) != 0);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

START_TEST(another_user_namespace_of_the_same_user_is_reached_locally)
{
	if (!may_make_user_namespaces()) {
		printf("SKIP: this host lets us make no user namespace\n");
		return;
	}
	hold(&namespace_meetings[_i]);
}
END_TEST

/* ---- another network namespace ---- */

#define PARTED "no process of this network namespace"

static const struct meeting parted[] = {
	{ "tcp", { NULL, NULL, PARTED }, { NULL, NULL, "the peer says: " PARTED } },
	{ "tcp",
	  { NULL, enter_container, PARTED },
	  { NULL, enter_container, "the peer says: " PARTED } },
};

static struct kvt_engine *enter_network(struct peer *test, const char *host, const struct end *end)
{
	static const char *const interfaces[] = { CABLE };
	struct kvt_engine_config config = make_keyed_config(end->provider);
	connect_cable(test, host);
	if (end->prepare != NULL)
		end->prepare();
	config.interfaces = interfaces;
	return open_engine(&config);
}

static void play_far_server(struct peer *test, const void *arg)
{
	const struct meeting *meeting = arg;
	struct side side = { .engine = enter_network(test, "10.99.7.2", &meeting->server) };
	peer_tell(test, kvt_engine_get_port(side.engine));
	if (strcmp(meeting->path, "local") != 0) {
		side.conn = accept_from(side.engine);
		expect_path(side.conn, meeting->path, meeting->server.word);
		move_bytes(&side, false);
		side_disconnect(&side);
	} else {
		peer_hear(test);
	}
	kvt_engine_close(side.engine);
}

static void play_far_caller(struct peer *test, const void *arg)
{
	const struct meeting *meeting = arg;
	struct kvt_error error = { .code = KVT_OK };
	struct side side = { .engine = enter_network(test, "10.99.7.1", &meeting->caller) };
	enum kvt_err err = kvt_conn_open(side.engine, "10.99.7.2", (uint16_t)peer_hear(test),
					 PATIENCE_NS, &side.conn, &error);
	if (strcmp(meeting->path, "local") != 0) {
		must(err == KVT_OK, "%s", error.text);
		expect_path(side.conn, meeting->path, meeting->caller.word);
		move_bytes(&side, true);
		side_disconnect(&side);
	} else {
		/* Who has another provider would have taken that. */
		must(err == (meeting->caller.provider != NULL ? KVT_E_UNREACHABLE
							      : KVT_E_NO_PROVIDER),
		     "%s: %s", kvt_err_get_name(err), error.text);
		must(strstr(error.text, "one network namespace, and of one user") != NULL, "%s",
		     error.text);
	}
	kvt_engine_close(side.engine);
}

static void hold_apart(const struct meeting *meeting)
{
	struct peer caller, server;
	if (!can_lay_cable(NULL)) {
		printf("SKIP: network namespaces and a cable between them take root and ip(8)\n");
		return;
	}
	peer_start(&caller, play_far_caller, meeting);
	peer_start(&server, play_far_server, meeting);
	lay_cable(&caller, &server);
	peer_tell(&caller, peer_hear(&server));
	peer_finish(&caller);
	if (strcmp(meeting->path, "local") == 0)
		peer_tell(&server, 0);
	peer_finish(&server);
}

START_TEST(another_network_namespace_is_reached_over_the_network)
{
	hold_apart(&parted[_i]);
}
END_TEST

START_TEST(who_insists_on_the_local_path_is_told_what_stands_between)
{
	static const struct meeting insisting[] = {
		{ "local", { "local", NULL, NULL }, { NULL, NULL, NULL } },
		{ "local", { NULL, NULL, NULL }, { "local", NULL, NULL } },
	};
	hold_apart(&insisting[_i]);
}
END_TEST

START_TEST(who_insists_does_not_meet_who_never_takes_it)
{
	struct kvt_engine_config local = make_keyed_config("local"), tcp = make_keyed_config("tcp");
	struct kvt_engine *one = open_engine(&local), *other = open_engine(&tcp);
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn;
	ck_assert_int_eq(kvt_conn_open(one, get_host(), kvt_engine_get_port(other), PATIENCE_NS,
				       &conn, &error),
			 KVT_E_NO_PROVIDER);
	ck_assert_ptr_nonnull(strstr(error.text, "peer offers local; this engine has tcp"));
	kvt_engine_close(one);
	kvt_engine_close(other);
}
END_TEST

/* ---- few descriptors ---- */

static unsigned count_fds_of(const struct kvt_engine_config *config)
{
	int before = count_fds();
	struct kvt_engine *engine = open_engine(config);
	int count = count_fds() - before;
	kvt_engine_close(engine);
	expect_fds(before);
	return (unsigned)count;
}

/* An engine that is opened while no more than so many descriptors are left. */
static struct kvt_engine *open_with_few(const struct kvt_engine_config *config, unsigned count)
{
	struct rlimit limit, few;
	int lowest = dup(STDIN_FILENO);
	close(lowest);
	must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
	few = limit;
	few.rlim_cur = (rlim_t)lowest + count;
	must(setrlimit(RLIMIT_NOFILE, &few) == 0, "%s", strerror(errno));
	struct kvt_engine *engine = open_engine(config);
	must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
	return engine;
}

START_TEST(an_engine_that_finds_no_descriptors_for_the_local_path_goes_without)
{
	struct kvt_engine_config config = make_keyed_config(NULL);
	config.ncpus = 3;
	kvt_engine_close(open_engine(&config)); /* what a provider opens once for all */
	unsigned with_local = count_fds_of(&config);
	setenv("KVTRANS_LOCAL", "0", 1);
	unsigned without = count_fds_of(&config);
	unsetenv("KVTRANS_LOCAL");
	ck_assert_uint_lt(without, with_local);
	struct kvt_engine *other = open_engine(&config);
	for (unsigned count = without; count < with_local; count++) {
		struct kvt_engine *engine = open_with_few(&config, count);
		struct kvt_conn *conn = connect_to(engine, kvt_engine_get_port(other));
		struct kvt_conn *peer = accept_from(other);
		expect_path(conn, "tcp", "could not open it: ");
		expect_path(peer, "tcp", "the peer takes no local lanes");
		kvt_conn_close(conn);
		kvt_conn_close(peer);
		kvt_engine_close(engine);
	}
	kvt_engine_close(other);
}
END_TEST

/* ---- what is left ---- */

START_TEST(connections_on_the_local_path_give_all_descriptors_back)
{
	struct kvt_engine_config config = make_keyed_config(NULL);
	config.nconn_per_cpu = 3;
	struct kvt_engine *near = open_engine(&config), *far = open_engine(&config);
	int fds = count_fds();
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct kvt_conn *conn = connect_to(near, kvt_engine_get_port(far));
		struct kvt_conn *peer = accept_from(far);
		expect_path(conn, "local", NULL);
		expect_path(peer, "local", NULL);
		kvt_conn_close(conn);
		kvt_conn_close(peer);
	}
	expect_fds(fds);
	expect_no_gauges(near);
	expect_no_gauges(far);
	kvt_engine_close(near);
	kvt_engine_close(far);
}
END_TEST

int main(void)
{
	enum {
		MEETINGS = sizeof(meetings) / sizeof(meetings[0]),
		ROOT_MEETINGS = sizeof(root_meetings) / sizeof(root_meetings[0])
	};
	if (is_under_tsan()) {
		printf("SKIP: ThreadSanitizer does not see what processes tell each other by "
		       "shared "
		       "memory\n");
		return 77;
	}
	unsetenv("KVTRANS_LOCAL"); /* the other tests have it */
	TCase *tests = tcase_create("path");
	tcase_add_checked_fixture(tests, NULL, sweep_peers);
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(
		tests,
		engines_of_one_host_find_the_local_path_where_both_want_it_and_nothing_stands_between,
		0, MEETINGS);
	tcase_add_loop_test(tests, another_user_or_another_host_is_reached_over_the_network, 0,
			    ROOT_MEETINGS);
	tcase_add_loop_test(tests, another_user_namespace_of_the_same_user_is_reached_locally, 0,
			    2);
	tcase_add_loop_test(tests, containers_that_share_a_network_are_reached_locally, 0,
			    sizeof(container_meetings) / sizeof(container_meetings[0]));
	tcase_add_loop_test(tests, another_network_namespace_is_reached_over_the_network, 0, 2);
	tcase_add_loop_test(tests, who_insists_on_the_local_path_is_told_what_stands_between, 0, 2);
	tcase_add_test(tests, who_insists_does_not_meet_who_never_takes_it);
	tcase_add_test(tests, an_engine_that_finds_no_descriptors_for_the_local_path_goes_without);
	tcase_add_test(tests, connections_on_the_local_path_give_all_descriptors_back);
	add_raw_path_tests(tests);
	return run_tests("path", tests);
}
