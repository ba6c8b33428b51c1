/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_offer.c - pools that are exported to all peers: those that are there and those that come.
 */
#include "pages.h"

#include <pthread.h>

#include "engine/paged/exports.h"
#include "engine/paged/pool.h"
#include "support/runner.h"

enum { MORE = 3 };

static struct kvt_offer *offer;
static struct {
	struct kvt_conn *near;
	struct kvt_conn *far;
} more[MORE];

static enum kvt_err try_offer(const char *name, unsigned access)
{
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err =
		kvt_offer_open(pages.bed.far.engine, pages.far, access, name, &offer, &error);
	ck_assert_int_eq(error.code, err);
	return err;
}

static enum kvt_err find_within(struct kvt_conn *conn, const char *name, int64_t timeout_ns,
				struct kvt_remote **remote)
{
	return kvt_remote_find(conn, name, timeout_ns, remote, NULL);
}

static struct kvt_remote *find(struct kvt_conn *conn, const char *name)
{
	struct kvt_remote *remote;
	ck_assert_int_eq(find_within(conn, name, BED_PATIENCE_NS, &remote), KVT_OK);
	return remote;
}

static void expect_none(struct kvt_conn *conn, const char *name)
{
	struct kvt_remote *remote;
	ck_assert_int_eq(find_within(conn, name, 50 * KVI_MS, &remote), KVT_E_TIMEOUT);
}

static void connect_more(unsigned i)
{
	uint16_t port = kvt_engine_get_port(pages.bed.far.engine);
	ck_assert_int_eq(kvt_conn_open(pages.bed.near.engine, "127.0.0.1", port, BED_PATIENCE_NS,
				       &more[i].near, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_conn_accept(pages.bed.far.engine, BED_PATIENCE_NS, &more[i].far, NULL),
			 KVT_OK);
}

static void disconnect_more(unsigned i)
{
	kvt_conn_close(more[i].near);
	kvt_conn_close(more[i].far);
}

static void expect_written(struct kvt_remote *remote)
{
	int32_t index = 7;
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.pool = pages.near;
	request.remote = remote;
	request.local_idx = request.remote_idx = &index;
	request.index_len = sizeof(index);
	request.count = 1;
	memset(pages.far_memory + 7 * BLOCK_LEN, CANARY, BLOCK_LEN);
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	finish(transfer, KVT_OK);
	ck_assert_mem_eq(pages.far_memory + 7 * BLOCK_LEN, pages.near_memory + 7 * BLOCK_LEN,
			 BLOCK_LEN);
}

START_TEST(peers_of_now_and_later_find_what_is_offered)
{
	pages_open((unsigned)_i);
	connect_more(0);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	connect_more(1);
	struct kvt_conn *conns[] = { pages.bed.near.conn, more[0].near, more[1].near };
	for (unsigned i = 0; i < 3; i++) {
		struct kvt_remote *remote = find(conns[i], "cache");
		expect_written(remote);
		kvt_remote_close(remote);
	}
	/* The side that connects offers, too. */
	struct kvt_offer *near_offer;
	ck_assert_int_eq(kvt_offer_open(pages.bed.near.engine, pages.near, KVT_ACCESS_READ, "mine",
					&near_offer, NULL),
			 KVT_OK);
	connect_more(2);
	kvt_remote_close(find(more[2].far, "mine"));
	kvt_remote_close(find(more[0].far, "mine"));
	kvt_offer_close(near_offer);
	for (unsigned i = 0; i < MORE; i++)
		disconnect_more(i);
	kvt_offer_close(offer);
	pages_close();
}
END_TEST

START_TEST(an_offer_is_withdrawn_from_all_and_its_name_is_free_again)
{
	struct kvt_remote *remotes[2];
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	pages_open((unsigned)_i);
	connect_more(0);
	for (unsigned round = 0; round < 3; round++) {
		ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
		remotes[0] = find(pages.bed.near.conn, "cache");
		remotes[1] = find(more[0].near, "cache");
		kvt_offer_close(offer);
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_int_eq(kvt_remote_get_info(remotes[i], &info), KVT_OK);
			ck_assert(info.withdrawn);
			kvt_remote_close(remotes[i]);
		}
		expect_none(more[0].near, "cache");
	}
	connect_more(1);
	expect_none(more[1].near, "cache");
	disconnect_more(0);
	disconnect_more(1);
	pages_close();
}
END_TEST

START_TEST(a_name_is_offered_once_and_never_beside_an_export)
{
	struct kvt_export *exported;
	pages_open((unsigned)_i);
	connect_more(0);
	ck_assert_int_eq(kvt_export_open(more[0].far, pages.far, KVT_ACCESS_READ, "own", &exported,
					 NULL),
			 KVT_OK);
	/* It is taken on one connection: on the other it is not left behind. */
	ck_assert_int_eq(try_offer("own", KVT_ACCESS_READ), KVT_E_INVALID);
	expect_none(pages.bed.near.conn, "own");
	kvt_export_close(exported);
	ck_assert_int_eq(try_offer("own", KVT_ACCESS_READ), KVT_OK);
	struct kvt_offer *first = offer;
	ck_assert_int_eq(try_offer("own", KVT_ACCESS_READ), KVT_E_INVALID);
	ck_assert_int_eq(kvt_export_open(more[0].far, pages.far, KVT_ACCESS_READ, "own", &exported,
					 NULL),
			 KVT_E_INVALID);
	kvt_offer_close(first);
	disconnect_more(0);
	pages_close();
}
END_TEST

START_TEST(what_cannot_be_offered_is_refused)
{
	pages_open(0);
	ck_assert_int_eq(try_offer(NULL, KVT_ACCESS_READ), KVT_E_INVALID);
	ck_assert_int_eq(try_offer("", KVT_ACCESS_READ), KVT_E_INVALID);
	ck_assert_int_eq(try_offer("cache", 0), KVT_E_INVALID);
	ck_assert_int_eq(kvt_offer_open(pages.bed.near.engine, pages.far, KVT_ACCESS_READ, "cache",
					&offer, NULL),
			 KVT_E_INVALID);
	ck_assert_int_eq(kvt_offer_open(NULL, pages.far, KVT_ACCESS_READ, "cache", &offer, NULL),
			 KVT_E_INVALID);
	ck_assert_int_eq(kvt_offer_open(pages.bed.far.engine, pages.far, KVT_ACCESS_READ, "cache",
					NULL, NULL),
			 KVT_E_INVALID);
	kvt_pool_stop(pages.far);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_READ), KVT_E_CLOSED);
	kvt_offer_close(NULL);
	pages_close();
}
END_TEST

START_TEST(an_offer_goes_with_its_pool_and_peers_are_served_on)
{
	pages_open((unsigned)_i);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	struct kvt_remote *remote = find(pages.bed.near.conn, "cache");
	kvt_pool_stop(pages.far);
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	ck_assert_int_eq(kvt_remote_get_info(remote, &info), KVT_OK);
	ck_assert(info.withdrawn);
	kvt_remote_close(remote);
	connect_more(0);
	ck_assert_int_eq(kvt_conn_get_status(more[0].far, NULL), KVT_OK);
	expect_none(more[0].near, "cache");
	kvt_offer_close(offer);
	disconnect_more(0);
	pages_close();
}
END_TEST

/* Nothing of an offer is left of connections that have ended, however many. */
START_TEST(peers_that_are_lost_leave_nothing_of_an_offer)
{
	pages_open((unsigned)_i);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	uint64_t registrations = get_stats(pages.bed.far.engine).registrations;
	for (unsigned i = 0; i < 20; i++) {
		connect_more(0);
		kvt_remote_close(find(more[0].near, "cache"));
		disconnect_more(0);
	}
	wait_until(get_stats(pages.bed.far.engine).registrations == registrations);
	fake_kill_lanes(NULL);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	expect_new_pages();
	kvt_remote_close(find(pages.bed.near.conn, "cache"));
	kvt_offer_close(offer);
	pages_close();
}
END_TEST

/* The peer gets its connection, which has ended, and knows why; the others go on. */
START_TEST(a_connection_on_which_an_offer_fails_ends_with_that_error)
{
	pages_open(0);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	uint16_t port = kvt_engine_get_port(pages.bed.far.engine);
	ck_assert_int_eq(kvt_conn_open(pages.bed.near.engine, "127.0.0.1", port, BED_PATIENCE_NS,
				       &more[0].near, NULL),
			 KVT_OK);
	fake_fail_open(FAKE_OPEN_MEMORY, 1, KVT_E_LIMIT);
	ck_assert_int_eq(kvt_conn_accept(pages.bed.far.engine, BED_PATIENCE_NS, &more[0].far, NULL),
			 KVT_OK);
	fake_fail_open(FAKE_OPEN_MEMORY, 0, KVT_OK);
	ck_assert_int_eq(kvt_conn_get_status(more[0].far, NULL), KVT_E_LIMIT);
	disconnect_more(0);
	kvt_remote_close(find(pages.bed.near.conn, "cache"));
	/* And one that cannot be offered to all is offered to nobody. */
	struct kvt_offer *first = offer;
	connect_more(1);
	fake_fail_open(FAKE_OPEN_MEMORY, 3, KVT_E_LIMIT);
	ck_assert_int_eq(try_offer("second", KVT_ACCESS_READ), KVT_E_LIMIT);
	fake_fail_open(FAKE_OPEN_MEMORY, 0, KVT_OK);
	expect_none(pages.bed.near.conn, "second");
	expect_none(more[1].near, "second");
	disconnect_more(1);
	kvt_offer_close(first);
	pages_close();
}
END_TEST

/* Closing cannot fail, so it needs no memory but for its words to the peers; who cannot be told is cut off. */
START_TEST(an_offer_is_withdrawn_though_there_is_no_memory)
{
	struct kvt_remote *remotes[2];
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	pages_open((unsigned)_i);
	connect_more(0);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	remotes[0] = find(pages.bed.near.conn, "cache");
	remotes[1] = find(more[0].near, "cache");
	failing_alloc_arm(1);
	kvt_offer_close(offer);
	ck_assert(failing_alloc_has_fired());
	struct kvt_conn *conns[] = { pages.bed.far.conn, more[0].far };
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(kvt_remote_get_info(remotes[i], &info), KVT_OK);
		ck_assert(info.withdrawn || kvt_conn_get_status(conns[i], NULL) != KVT_OK);
		kvt_remote_close(remotes[i]);
	}
	disconnect_more(0);
	pages_close();
}
END_TEST

/* The peer's write is held, and so the withdrawal by the pool. */
START_TEST(an_offer_closes_behind_withdrawals_that_another_thread_has_begun)
{
	pthread_t stopper, opener;
	pages_open((unsigned)_i);
	kvt_remote_close(pages.remote);
	kvt_export_close(pages.exported); /* the pool has the offer's alone */
	pages.exported = NULL;
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	pages.remote = find(pages.bed.near.conn, "cache");
	fill_pages(KVT_WRITE, 5);
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *transfer = start_blocks(KVT_WRITE, 5, NULL, 0);
	wait_until(get_stats(pages.bed.near.engine).segments > 0);
	fake_trickle(true);
	pthread_create(&stopper, NULL, stop_pool, pages.far);
	wait_until(atomic_load(&pages.far->closing));
	rest(5 * KVI_MS);
	pthread_create(&opener, NULL, let_go_soon, NULL);
	kvt_offer_close(offer);
	memset(pages.far_memory, 0, PAGES_LEN);
	rest(30 * KVI_MS);
	ck_assert_msg(holds_only(pages.far_memory, PAGES_LEN, 0), "written after the withdrawal");
	pthread_join(opener, NULL);
	pthread_join(stopper, NULL);
	finish(transfer, KVT_E_WITHDRAWN);
	pages_close();
}
END_TEST

static bool are_withdrawn(struct kvt_remote *const *remotes, unsigned count)
{
	unsigned withdrawn = 0;
	for (unsigned i = 0; i < count; i++)
		withdrawn += atomic_load(&remotes[i]->withdrawn);
	return withdrawn == count;
}

/* They all write, and are slow to stop, or do not. */
START_TEST(a_pool_that_stops_is_withdrawn_from_all_peers_at_the_same_time)
{
	enum { PEERS = 1 + MORE };
	bool do_stop = _i == 0;
	pthread_t stopper;
	struct kvt_remote *remotes[PEERS];
	struct kvt_transfer *transfers[PEERS];
	pages_open(0);
	kvt_remote_close(pages.remote);
	kvt_export_close(pages.exported);
	pages.exported = NULL;
	for (unsigned i = 0; i < MORE; i++)
		connect_more(i);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	fill_pages(KVT_WRITE, 5);
	fake_hold(FAKE_WRITE);
	for (unsigned i = 0; i < PEERS; i++) {
		remotes[i] = find(i < MORE ? more[i].near : pages.bed.near.conn, "cache");
		pages.remote = remotes[i];
		transfers[i] = start_blocks(KVT_WRITE, 5, NULL, 0);
	}
	fake_trickle(do_stop);
	int64_t started_ns = kvi_clock_now();
	pthread_create(&stopper, NULL, stop_pool, pages.far);
	wait_until(are_withdrawn(remotes, PEERS));
	if (do_stop)
		fake_hold(0);
	pthread_join(stopper, NULL);
	if (!do_stop)
		expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS); /* as one of them */
	fake_hold(0);
	for (unsigned i = 0; i < PEERS; i++)
		finish(transfers[i], KVT_E_WITHDRAWN);
	for (unsigned i = 0; i < MORE; i++) {
		kvt_remote_close(remotes[i]);
		disconnect_more(i);
	}
	kvt_offer_close(offer);
	pages_close();
}
END_TEST

START_TEST(an_offer_outlives_its_engine)
{
	pages_open(0);
	ck_assert_int_eq(try_offer("cache", KVT_ACCESS_WRITE), KVT_OK);
	kvt_engine_stop(pages.bed.far.engine);
	kvt_offer_close(offer);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("offer");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, peers_of_now_and_later_find_what_is_offered, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, an_offer_is_withdrawn_from_all_and_its_name_is_free_again, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, a_name_is_offered_once_and_never_beside_an_export, 0, 2);
	tcase_add_test(tests, what_cannot_be_offered_is_refused);
	tcase_add_loop_test(tests, an_offer_goes_with_its_pool_and_peers_are_served_on, 0, 2);
	tcase_add_loop_test(tests, peers_that_are_lost_leave_nothing_of_an_offer, 0, MAIN_WAYS);
	tcase_add_test(tests, a_connection_on_which_an_offer_fails_ends_with_that_error);
	tcase_add_loop_test(tests, an_offer_is_withdrawn_though_there_is_no_memory, 0, 2);
	tcase_add_loop_test(tests, an_offer_closes_behind_withdrawals_that_another_thread_has_begun,
			    0, MAIN_WAYS);
	tcase_add_loop_test(tests, a_pool_that_stops_is_withdrawn_from_all_peers_at_the_same_time,
			    0, 2);
	tcase_add_test(tests, an_offer_outlives_its_engine);
	return run_tests("engine_offer", tests);
}
