/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_local.c - the fabric between processes of one host: who calls it, what may be handed to it, and a peer
 * that means harm. That peer has a lane of its own making, and puts into its ring what no engine would.
 */
#define _GNU_SOURCE 1 /* memfd_create, F_ADD_SEALS */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"
#include "support/punctual.h"
#include "test_local.h"

/* ---- what is handed over ---- */

/* Nothing that makes a lane: the caller is hung up on, and nothing is left of it. */
static void expect_refusal(struct bed *bed, int socket)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	while (!has_hung_up(socket)) {
		ck_assert_ptr_null(kvi_listener_take(bed->listener));
		ck_assert_int_lt(kvi_clock_now(), deadline);
	}
	close(socket);
}

START_TEST(a_lane_that_is_not_sealed_or_of_another_size_is_refused)
{
	enum { SHORT = F_SEAL_GROW | F_SEAL_SEAL, ALL = F_SEAL_SHRINK | SHORT };
	struct kvi_ring model;
	struct bed bed;
	struct stat stat;
	bed_open(&bed);
	ck_assert_int_eq(kvi_ring_make(&model, NULL), KVT_OK);
	ck_assert_int_eq(fstat(model.fd, &stat), 0);
	kvi_ring_close(&model);
	unsigned before = count_fds();
	const int files[] = { make_file(stat.st_size, SHORT),
			      make_file(stat.st_size, 0),
			      make_file(stat.st_size - 4096, ALL),
			      make_file(0, ALL),
			      make_file(stat.st_size, ALL | F_SEAL_WRITE),
			      open("/dev/null", O_RDWR | O_CLOEXEC) };
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct kvi_local_hello hello = make_hello();
		int socket = call(&bed);
		say(socket, &hello, sizeof(hello), files[i], 1);
		expect_refusal(&bed, socket);
		close(files[i]);
	}
	ck_assert_uint_eq(count_fds(), before);
	bed_close(&bed);
}
END_TEST

/* As with vm.memfd_noexec, which seals whatever is made without saying so. */
START_TEST(a_lane_that_nobody_can_execute_is_taken)
{
	enum { NOEXEC_SEAL = 8, SEAL_EXEC = 0x20 };
	struct kvi_local_hello hello = make_hello();
	struct kvi_ring model;
	struct stat stat;
	struct bed bed;
	int fd = memfd_create("kvt-test", MFD_CLOEXEC | MFD_ALLOW_SEALING | NOEXEC_SEAL);
	if (fd < 0)
		return; /* before Linux 6.3 */
	bed_open(&bed);
	ck_assert_int_eq(kvi_ring_make(&model, NULL), KVT_OK);
	ck_assert_int_eq(fcntl(model.fd, F_GET_SEALS) & SEAL_EXEC, SEAL_EXEC);
	ck_assert_int_eq(fstat(model.fd, &stat), 0);
	ck_assert_int_eq(ftruncate(fd, stat.st_size), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	int socket = call(&bed);
	say(socket, &hello, sizeof(hello), fd, 1);
	kvi_lane_request_reject(bed_take_request(&bed));
	kvi_ring_close(&model);
	close(socket);
	close(fd);
	bed_close(&bed);
}
END_TEST

START_TEST(a_caller_that_says_something_else_is_refused)
{
	struct bed bed;
	struct kvi_ring ring;
	bed_open(&bed);
	ck_assert_int_eq(kvi_ring_make(&ring, NULL), KVT_OK);
	unsigned before = count_fds();
	struct kvi_local_hello hellos[4];
	for (size_t i = 0; i < 4; i++)
		hellos[i] = make_hello();
	hellos[0].magic++;
	hellos[1].ring_len /= 2;
	hellos[2].len = KVI_LANE_DATA_LEN_MAX + 1;
	for (size_t i = 0; i < 7; i++) {
		/* The last ones: half a hello, no descriptor, too many of them, and nothing but an end. */
		int socket = call(&bed);
		bool is_half = i == 3, is_bare = i == 4, is_many = i == 5;
		if (i < 6)
			say(socket, &hellos[i < 3 ? i : 3],
			    is_half ? sizeof(hellos[0]) / 2 : sizeof(hellos[0]), ring.fd,
			    is_bare   ? 0
			    : is_many ? 3
				      : 1);
		else
			shutdown(socket, SHUT_RDWR);
		if (is_many) /* those that there is no place for are dropped */
			kvi_lane_request_reject(bed_take_request(&bed));
		expect_refusal(&bed, socket);
	}
	ck_assert_uint_eq(count_fds(), before);
	kvi_ring_close(&ring);
	bed_close(&bed);
}
END_TEST

START_TEST(callers_that_say_nothing_keep_nobody_out)
{
	enum { SILENT = 300 };
	static int sockets[SILENT];
	struct bed bed;
	struct end near, far;
	bed_open(&bed);
	unsigned before = count_fds();
	for (size_t i = 0; i < SILENT; i++) {
		sockets[i] = call(&bed);
		ck_assert_ptr_null(kvi_listener_take(bed.listener));
	}
	bed_connect(&bed, &near, &far);
	end_close(&near);
	end_close(&far);
	kvi_listener_close(bed.listener);
	bed.listener = NULL;
	for (size_t i = 0; i < SILENT; i++) {
		ck_assert(has_hung_up(sockets[i]));
		close(sockets[i]);
	}
	ck_assert_uint_lt(count_fds(), before);
	bed_close(&bed);
}
END_TEST

/* ---- what is put into a ring ---- */

enum harm {
	WRONG_KIND,
	NO_KIND,
	TOO_MANY_SPANS,
	TOO_LONG,
	SUM_IS_LESS,
	SUM_IS_MORE,
	SUM_OVERFLOWS,
	HALF_A_RECORD,
	NOT_ALL_SPANS,
	ANSWER_TO_NOTHING,
	MESSAGE_TOO_LONG,
	WRONG_ADDRESS,
	WRONG_KEY,
	READS_WHAT_IS_NOT_OPEN,
	MEMORY_THAT_IS_NOT_THERE,
	MAPPED_BY_NOBODY,
	NO_SLOT,
	GRANT_OF_NOTHING,
	PUTS_TOO_MUCH,
	TAKES_TOO_MUCH,
	DOES_TOO_MUCH,
	HARMS,
};

/* Figures that cannot be. */
static void lie(struct raw *raw, enum harm harm)
{
	struct kvi_ring_side *own = raw->ring.own;
	if (harm == PUTS_TOO_MUCH)
		atomic_store(&own->put, (uint64_t)KVI_RING_LEN + 8);
	else if (harm == TAKES_TOO_MUCH)
		atomic_store(&own->taken, 1);
	else
		atomic_store(&own->done, 1);
	send(raw->socket, "", 1, MSG_NOSIGNAL);
}

static void do_harm(struct raw *raw, enum harm harm)
{
	struct kvi_record record = { .kind = KVI_RECORD_WRITE_PULL, .count = 1, .len = 16 };
	struct kvi_record_span spans[KVI_SPANS_MAX + 1] = {
		{ raw->area.rkey.address, raw->area.rkey.key, 16, (uintptr_t)raw }
	};
	size_t count = 1;
	switch (harm) {
	case WRONG_KIND:
		record.kind = KVI_RECORD_RECEIVE;
		break;
	case NO_KIND:
		record.kind = 0;
		break;
	case TOO_MANY_SPANS:
		record.count = count = KVI_SPANS_MAX + 1;
		break;
	case TOO_LONG:
		record.len = spans[0].len = (uint64_t)KVI_LOCAL_SEGMENT_LEN + 1;
		break;
	case SUM_IS_LESS:
		record.len = 17;
		break;
	case SUM_IS_MORE:
		record.len = 15;
		break;
	case SUM_OVERFLOWS:
		record.count = count = 2;
		spans[1] = spans[0];
		spans[0].len = UINT64_MAX - 7;
		spans[1].len = 0 - spans[0].len + record.len;
		break;
	case ANSWER_TO_NOTHING:
		record.kind = KVI_RECORD_ANSWER;
		record.count = 0;
		count = 0;
		break;
	case MESSAGE_TOO_LONG:
		record.kind = KVI_RECORD_SEND;
		record.count = 0;
		count = 0;
		record.len = 65;
		break;
	case WRONG_ADDRESS:
		spans[0].address += LEN - 8;
		break;
	case WRONG_KEY:
		spans[0].key++;
		break;
	case READS_WHAT_IS_NOT_OPEN:
		record.kind = KVI_RECORD_READ;
		break;
	case MEMORY_THAT_IS_NOT_THERE:
		spans[0].source = 4096;
		break;
	case MAPPED_BY_NOBODY:
		record.kind = KVI_RECORD_WRITE_MAP;
		spans[0].source = 0;
		break;
	case NO_SLOT:
		record.kind = KVI_RECORD_WRITE_MAP;
		spans[0].source = UINT64_MAX;
		break;
	case GRANT_OF_NOTHING:
		record.kind = KVI_RECORD_GRANT_MAP;
		break;
	default:
		break;
	}
	if (harm == HALF_A_RECORD || harm == NOT_ALL_SPANS) {
		memcpy(kvi_ring_get_out(&raw->ring), &record, sizeof(record));
		kvi_ring_put(&raw->ring, harm == HALF_A_RECORD ? 8 : sizeof(record) + 8);
		send(raw->socket, "", 1, MSG_NOSIGNAL);
	} else {
		put(raw, &record, spans, count);
	}
}

START_TEST(what_no_engine_puts_into_a_ring_costs_that_lane_and_no_other)
{
	enum harm harm = (enum harm)_i;
	struct bed bed;
	struct raw raw;
	struct end near, far;
	struct area inbox, source, target;
	struct act receive, send, write;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	area_open(&inbox, &bed.far, 64, KVI_ACCESS_LOCAL, CANARY);
	area_open(&source, &bed.near, LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&target, &bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, 0);
	post_recv(&raw.far, &receive, &inbox, 0, 64);
	if (harm < PUTS_TOO_MUCH)
		do_harm(&raw, harm);
	else
		lie(&raw, harm);
	if (harm == TAKES_TOO_MUCH) /* which shows when something is put */
		post_send(&raw.far, &send, &inbox, 0, 8);
	bed_wait(&bed, raw.far.lost_count == 1);
	bed_wait(&bed, receive.reports == 1);
	ck_assert(is_lost(&receive));
	ck_assert(has_hung_up(raw.socket));
	ck_assert(area_holds_only(&raw.area, CANARY));
	ck_assert(area_holds_only(&inbox, CANARY));

	post_write(&near, &write, &source, 0, LEN, target.rkey);
	bed_wait(&bed, write.reports == 1);
	ck_assert_int_eq(write.completion.err, KVT_OK);
	ck_assert(area_holds_only(&target, 1));
	raw_close(&raw);
	end_close(&near);
	end_close(&far);
	area_close(&target);
	area_close(&source);
	area_close(&inbox);
	bed_close(&bed);
}
END_TEST

/* As a fuzzer would: a ring full of what comes from a generator. */
START_TEST(a_ring_full_of_noise_costs_that_lane)
{
	struct bed bed;
	bed_open(&bed);
	uint64_t state = (uint64_t)_i * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (unsigned round = 0; round < 20; round++) {
		struct raw raw;
		raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE | KVI_ACCESS_REMOTE_READ);
		uint8_t *out = kvi_ring_get_out(&raw.ring);
		for (size_t i = 0; i + 8 <= KVI_RING_LEN; i += 8) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			/* Small numbers too, and the right key: so that it comes further. */
			uint64_t word = state % 3 == 0	 ? state % 8 | (state >> 60) << 32
					: state % 3 == 1 ? raw.area.rkey.key
							 : state;
			memcpy(out + i, &word, sizeof(word));
		}
		kvi_ring_put(&raw.ring, KVI_RING_LEN);
		send(raw.socket, "", 1, MSG_NOSIGNAL);
		int64_t deadline = kvi_deadline_after(20 * KVI_MS);
		while (raw.far.lost_count == 0 && kvi_clock_now() < deadline)
			bed_poll(&bed);
		/* It may be a message, for which there is no receive. */
		ck_assert_uint_le(raw.far.lost_count, 1);
		raw_close(&raw);
	}
	bed_close(&bed);
}
END_TEST

/* ---- death ---- */

/* A process of its own, that calls, says that its lane is there, and waits to be killed. */
static pid_t start_peer(const struct bed *bed, int ready)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	struct raw raw = { .socket = -1 };
	struct kvi_local_hello hello = make_hello();
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t len = kvi_listener_get_address(bed->listener, address);
	raw.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(raw.socket, (const struct sockaddr *)address, (socklen_t)len) != 0 ||
	    kvi_ring_make(&raw.ring, NULL) != KVT_OK)
		_exit(1);
	say(raw.socket, &hello, sizeof(hello), raw.ring.fd, 1);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

START_TEST(a_peer_that_is_killed_is_lost_at_once)
{
	struct bed bed;
	struct end far;
	int ready[2];
	uint8_t byte;
	bed_open(&bed);
	ck_assert_int_eq(pipe(ready), 0);
	pid_t pid = start_peer(&bed, ready[1]);
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	end_accept(&far, &bed, bed_take_request(&bed));
	bed_wait(&bed, far.connected_count == 1);
	bed_run(&bed, 20 * KVI_MS);
	ck_assert_uint_eq(far.lost_count, 0);
	kill(pid, SIGKILL);
	int64_t since = kvi_clock_now();
	bed_wait(&bed, far.lost_count == 1);
	ck_assert_int_lt(kvi_clock_now() - since, get_limit(200 * KVI_MS));
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	end_close(&far);
	close(ready[0]);
	close(ready[1]);
	bed_close(&bed);
}
END_TEST

/* ---- without process_vm_readv() ---- */

void forbid_pulling(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		abort();
}

Suite *make_local_suite(void)
{
	Suite *suite = suite_create("one host");
	TCase *tests = tcase_create("one host");
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_lane_that_is_not_sealed_or_of_another_size_is_refused);
	tcase_add_test(tests, a_lane_that_nobody_can_execute_is_taken);
	tcase_add_test(tests, a_caller_that_says_something_else_is_refused);
	tcase_add_test(tests, callers_that_say_nothing_keep_nobody_out);
	tcase_add_loop_test(tests, what_no_engine_puts_into_a_ring_costs_that_lane_and_no_other, 0,
			    HARMS);
	tcase_add_loop_test(tests, a_ring_full_of_noise_costs_that_lane, 0, 5);
	tcase_add_test(tests, a_peer_that_is_killed_is_lost_at_once);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, make_raw_tests());
	suite_add_tcase(suite, make_shared_tests());
	return suite;
}
