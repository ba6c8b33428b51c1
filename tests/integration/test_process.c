/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_process.c - what an engine is to its process: idle it sleeps, and a child of fork() gets nothing
 * of it but errors.
 */
#include "bed.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- idle ---- */

/* How often a thread of this process other than the main one was not seen asleep, in so many looks. */
static unsigned count_awake(unsigned looks)
{
	unsigned awake = 0;
	for (unsigned i = 0; i < looks; i++) {
		DIR *dir = opendir("/proc/self/task");
		must(dir != NULL, "no /proc");
		struct dirent *entry;
		while ((entry = readdir(dir)) != NULL) {
			char path[300], stat[512] = "";
			if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == getpid())
				continue;
			snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
			FILE *file = fopen(path, "r");
			if (file == NULL)
				continue;
			if (fgets(stat, sizeof(stat), file) != NULL && strstr(stat, ") S ") == NULL)
				awake++;
			fclose(file);
		}
		closedir(dir);
		rest(10 * MS);
	}
	return awake;
}

/* Both ends, connected and warm, do nothing for a second. Where the machine is emulated or shared, one second may cost
 * what it does not cost by itself: an engine that is not asleep pays for each. */
static void stay_idle(struct side *side)
{
	enum { TRIES = 4 };
	int64_t cpu_ns = SECOND;
	rest(200 * MS);
	for (unsigned i = 0; i < TRIES && cpu_ns >= SECOND / 20; i++) {
		int64_t since_ns = get_cpu_ns();
		rest(SECOND);
		cpu_ns = get_cpu_ns() - since_ns;
	}
	must(cpu_ns < SECOND / 20, "an idle second cost %lld us of CPU", (long long)cpu_ns / 1000);
	unsigned awake = count_awake(20);
	must(awake <= 4, "threads were seen awake %u times in 20 looks", awake);
	must(kvt_conn_get_status(side->conn, NULL) == KVT_OK, "the connection is lost");
}

static struct kvt_engine_config make_idle_config(void)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = 2;
	config.nconn_per_cpu = 4;
	return config;
}

static void play_idle(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine_config config = make_idle_config();
	struct side side;
	side_serve(&side, test, &config);
	struct kvt_transfer *receive = start_recv(side.kv, NULL, SIZE_MAX);
	send_pattern(side.kv, 5 * MIB, 1);
	stay_idle(&side);
	peer_tell(test, 0);
	finish(receive, KVT_OK);
	side_close(&side);
}

START_TEST(an_idle_connected_engine_sleeps)
{
	struct kvt_engine_config config = make_idle_config();
	struct peer peer;
	struct side side;
	peer_start(&peer, play_idle, NULL);
	side_call(&side, &peer, &config);
	recv_pattern(side.kv, 5 * MIB, 1);
	stay_idle(&side);
	peer_hear(&peer);
	send_pattern(side.kv, 10, 2);
	side_close(&side);
	peer_finish(&peer);
}
END_TEST

/* ---- fork ---- */

static void play_partner(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	recv_pattern(side.kv, 100, 1);
	peer_hear(test);
	send_pattern(side.kv, 4 * MIB, 2);
	side_close(&side);
}

/* In the child: every call says so at once, and closing all handles does nothing and ends. */
static void try_as_child(struct side *side, struct kvt_transfer *receive)
{
	struct kvt_conn *conn = NULL;
	struct kvt_kv *kv = NULL;
	struct kvt_transfer *transfer = NULL;
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_send_request send = KVT_SEND_REQUEST_INIT;
	struct kvt_recv_request recv = KVT_RECV_REQUEST_INIT;
	struct kvt_error error = { .code = KVT_OK };
	int64_t since_ns = get_time_ns();
	const enum kvt_err errs[] = {
		kvt_conn_open(side->engine, "127.0.0.1", 1, 0, &conn, &error),
		kvt_conn_accept(side->engine, KVT_FOREVER, &conn, &error),
		kvt_kv_open(side->conn, &config, &kv, &error),
		kvt_send_start(side->kv, &send, &transfer, &error),
		kvt_recv_start(side->kv, &recv, &transfer, &error),
		kvt_transfer_wait(receive, KVT_FOREVER),
	};
	for (unsigned i = 0; i < sizeof(errs) / sizeof(errs[0]); i++)
		if (errs[i] != KVT_E_FORKED)
			_exit((int)(10 + i));
	if (error.code != KVT_E_FORKED || strstr(error.text, "fork") == NULL)
		_exit(2);
	kvt_transfer_cancel(receive);
	kvt_transfer_free(receive);
	kvt_kv_close(side->kv);
	kvt_conn_close(side->conn);
	kvt_engine_stop(side->engine);
	kvt_engine_close(side->engine);
	_exit(is_within(since_ns, SECOND) ? 0 : 3);
}

START_TEST(a_child_of_fork_gets_errors_at_once_and_the_parent_goes_on)
{
	struct stage stage;
	stage_open(&stage, play_partner, NULL, NULL);
	send_pattern(stage.side.kv, 100, 1);
	struct kvt_transfer *receive = start_recv(stage.side.kv, NULL, SIZE_MAX);
	pid_t pid = fork();
	must(pid >= 0, "no child");
	if (pid == 0) {
		alarm(10);
		try_as_child(&stage.side, receive);
	}
	int status = 0;
	must(waitpid(pid, &status, 0) == pid, "no child");
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %#x",
	     status);

	peer_tell(&stage.peer, 0);
	must(finish(receive, KVT_OK) == 4 * MIB, "another length");
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

START_TEST(a_child_of_fork_opens_an_engine_of_its_own_or_is_told_why_not)
{
	kvt_engine_close(open_engine(NULL));
	pid_t pid = fork();
	must(pid >= 0, "no child");
	if (pid == 0) {
		struct kvt_engine_config config = make_config();
		struct kvt_engine *engine = NULL;
		struct kvt_error error = { .code = KVT_OK };
		alarm(10);
		enum kvt_err err = kvt_engine_open(&config, &engine, &error);
		kvt_engine_close(engine);
		if (err != (is_rdma() ? KVT_E_FORKED : KVT_OK))
			_exit(1);
		_exit(is_rdma() && strstr(error.text, "forked") == NULL ? 2 : 0);
	}
	int status = 0;
	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	     "the child ended with status %#x", status);
}
END_TEST

TCase *make_process_tests(void)
{
	TCase *tests = tcase_create("process");
	tcase_add_test(tests, an_idle_connected_engine_sleeps);
	tcase_add_test(tests, a_child_of_fork_gets_errors_at_once_and_the_parent_goes_on);
	tcase_add_test(tests, a_child_of_fork_opens_an_engine_of_its_own_or_is_told_why_not);
	return tests;
}
