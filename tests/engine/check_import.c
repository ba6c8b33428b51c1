/* SPDX-License-Identifier: Apache-2.0 */
/* check_import.c - importing without waiting: a transfer, which ends with a remote. */
#include "pages.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/lane/link.h"
#include "engine/paged/import.h"
#include "support/runner.h"

enum { MANY = 1000, BYTES_MAX = 4096 };

static enum kvt_err try_import(struct kvt_conn *conn, const char *name, int64_t timeout_ns,
			       struct kvt_transfer **transfer)
{
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	request.conn = conn;
	request.name = name;
	request.reap = true;
	request.timeout_ns = timeout_ns;
	return kvt_import_start(&request, transfer, NULL);
}

static struct kvt_transfer *start_find(const char *name, int64_t timeout_ns)
{
	struct kvt_transfer *transfer = NULL;
	ck_assert_int_eq(try_import(pages.bed.near.conn, name, timeout_ns, &transfer), KVT_OK);
	return transfer;
}

static enum kvt_err start_bytes(struct kvt_conn *conn, const void *bytes, size_t len,
				struct kvt_transfer **transfer)
{
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	request.conn = conn;
	request.bytes = bytes;
	request.len = len;
	return kvt_import_start(&request, transfer, NULL);
}

static struct kvt_transfer *reap_one(void)
{
	struct kvt_transfer *transfer;
	wait_until(kvt_engine_reap(pages.bed.near.engine, &transfer, 1) == 1);
	return transfer;
}

static struct kvt_export *export_named(const char *name)
{
	struct kvt_export *exported = NULL;
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far,
					 KVT_ACCESS_READ | KVT_ACCESS_WRITE, name, &exported, NULL),
			 KVT_OK);
	return exported;
}

/* The remote of an import that has succeeded; frees the transfer. */
static struct kvt_remote *take(struct kvt_transfer *transfer)
{
	await(transfer, KVT_OK);
	struct kvt_remote *remote = kvt_transfer_take_remote(transfer);
	ck_assert_ptr_nonnull(remote);
	ck_assert_ptr_null(kvt_transfer_take_remote(transfer));
	kvt_transfer_free(transfer);
	return remote;
}

/* A question without answer: the far worker is locked out until it is let go. */
static struct kvi_worker *silence_owner(void)
{
	struct kvi_worker *worker = pages.bed.far.conn->links[0].shard->worker;
	kvi_worker_lock(worker);
	return worker;
}

START_TEST(a_name_and_a_descriptor_are_imported_without_waiting)
{
	uint8_t bytes[BYTES_MAX];
	size_t len = sizeof(bytes);
	struct kvt_transfer *transfer;
	pages_open((unsigned)_i);
	struct kvt_export *exported = export_named("cache");
	transfer = start_find("cache", 0);
	ck_assert_ptr_eq(reap_one(), transfer);
	struct kvt_remote *found = take(transfer);
	ck_assert_int_eq(kvt_export_describe(exported, bytes, &len), KVT_OK);
	ck_assert_int_eq(start_bytes(pages.bed.near.conn, bytes, len, &transfer), KVT_OK);
	memset(bytes, 0, sizeof(bytes));
	struct kvt_remote *imported = take(transfer);
	ck_assert_ptr_eq(imported, found);
	kvt_remote_close(found);

	struct kvt_remote *before = pages.remote;
	pages.remote = imported;
	for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
		fill_pages(direction, 7);
		finish(start_blocks(direction, 7, NULL, 0), KVT_OK);
		ck_assert(are_moved(direction, 7));
	}
	pages.remote = before;
	kvt_remote_close(imported);
	kvt_export_close(exported);
	pages_close();
}
END_TEST

START_TEST(a_name_that_is_exported_later_is_found_then)
{
	pages_open((unsigned)_i);
	struct kvt_transfer *transfer = start_find("late", BED_PATIENCE_NS);
	expect_pending(transfer, 60 * KVI_MS);
	struct kvt_export *exported = export_named("late");
	kvt_remote_close(take(transfer));
	kvt_export_close(exported);
	pages_close();
}
END_TEST

/* How often the near side has asked, on all lanes. */
static uint64_t count_questions(void)
{
	struct kvt_conn *conn = pages.bed.near.conn;
	uint64_t count = 0;
	for (unsigned i = 0; i < conn->lane_count; i++) {
		kvi_worker_lock(conn->links[i].shard->worker);
		count += conn->links[i].last_question;
		kvi_worker_unlock(conn->links[i].shard->worker);
	}
	return count;
}

START_TEST(what_nobody_exports_is_asked_for_less_and_less_often)
{
	pages_open(0);
	uint64_t before = count_questions();
	int64_t since_ns = kvi_clock_now();
	struct kvt_transfer *transfer = start_find("none", KVT_FOREVER);
	expect_pending(transfer, 700 * KVI_MS);
	uint64_t asked = count_questions() - before;
	/* At 0, 20, 60, 140 and 300 ms, and every 320 ms from then on. */
	ck_assert_uint_ge(asked, 1);
	ck_assert_uint_le(asked, 5 + (uint64_t)(kvi_clock_now() - since_ns) / (320 * KVI_MS));
	kvt_transfer_free(transfer);
	pages_close();
}
END_TEST

/* They would count for the question that waits for room on the lane, which is not asked yet. */
START_TEST(answers_to_nothing_do_not_stop_questions)
{
	const struct kvi_message answer = { .type = KVI_MESSAGE_ATTACHED,
					    .attached.number = UINT64_MAX };
	pages_open(0);
	struct kvt_conn *conn = pages.bed.near.conn;
	struct kvi_link *link =
		&conn->links[atomic_load(&conn->exports.next_lane) % conn->lane_count];
	struct kvi_worker *worker = link->shard->worker;
	kvi_worker_lock(worker);
	uint64_t credits = link->send_credits;
	link->send_credits = 0;
	kvi_worker_unlock(worker);
	struct kvt_transfer *transfer = start_find("none", KVT_FOREVER);
	expect_pending(transfer, KVI_MS);
	kvi_worker_lock(worker);
	ck_assert_uint_eq(link->questions_out, 1);
	ck_assert_int_eq(kvi_import_on_answer(link, &answer), KVT_OK);
	kvi_worker_unlock(worker);
	kvt_transfer_free(transfer);
	kvi_worker_lock(worker);
	ck_assert_uint_eq(link->questions_out, 0);
	link->send_credits += credits;
	kvi_worker_unlock(worker);
	pages_close();
}
END_TEST

static void expect_failed(struct kvt_transfer *transfer, enum kvt_err err, const char *word)
{
	struct kvt_result result = await(transfer, err);
	ck_assert_msg(strstr(result.text, word) != NULL, "%s", result.text);
	ck_assert_ptr_null(kvt_transfer_take_remote(transfer));
	kvt_transfer_free(transfer);
}

START_TEST(an_import_ends_at_its_deadline)
{
	pages_open(0);
	int64_t since_ns = kvi_clock_now();
	expect_failed(start_find("none", 50 * KVI_MS), KVT_E_TIMEOUT, "\"none\"");
	expect_took(since_ns, 50 * KVI_MS, KVI_SECOND);
	expect_failed(start_find("none", KVT_NOWAIT), KVT_E_TIMEOUT, "");
	struct kvi_worker *far = silence_owner();
	struct kvt_transfer *transfer = start_find("none", 30 * KVI_MS);
	expect_failed(transfer, KVT_E_TIMEOUT, "did not answer");
	kvi_worker_unlock(far);
	pages_close();
}
END_TEST

START_TEST(an_import_is_cancelled_whatever_it_waits_for)
{
	pages_open((unsigned)_i);
	struct kvt_transfer *resting = start_find("none", KVT_FOREVER);
	expect_pending(resting, 10 * KVI_MS);
	struct kvi_worker *far = silence_owner();
	struct kvt_transfer *asking = start_find("none", KVT_FOREVER);
	expect_pending(asking, KVI_MS);
	kvt_transfer_cancel(asking);
	expect_failed(asking, KVT_E_CANCELLED, "cancelled");
	kvi_worker_unlock(far);
	kvt_transfer_cancel(resting);
	expect_failed(resting, KVT_E_CANCELLED, "cancelled");

	/* By freeing, and by letting go. */
	kvt_transfer_free(start_find("none", KVT_FOREVER));
	asking = start_find("none", KVT_FOREVER);
	kvt_transfer_cancel(asking);
	kvt_transfer_detach(asking);
	wait_until(get_stats(pages.bed.near.engine).transfers == 0);
	pages_close();
}
END_TEST

START_TEST(a_remote_that_nobody_takes_goes_with_its_transfer)
{
	pages_open((unsigned)_i);
	struct kvt_export *exported = export_named("cache");
	await(start_find("cache", 0), KVT_OK);
	kvt_transfer_free(reap_one());
	struct kvt_transfer *transfer = start_find("cache", 0);
	kvt_transfer_detach(transfer);
	wait_until(get_stats(pages.bed.near.engine).transfers == 0);
	/* Nobody holds it: the peer's withdrawal is confirmed at once. */
	kvt_export_close(exported);
	pages_close();
}
END_TEST

/* The way an import ends that no peer answers: with its connection, from either side, or its engine. */
START_TEST(imports_end_with_their_connection_and_their_engine)
{
	static const enum kvt_err errs[] = { KVT_E_CLOSED, KVT_E_PEER_CLOSED, KVT_E_CLOSED };
	struct kvt_transfer *transfers[MANY], *refused;
	pages_open(0);
	for (size_t i = 0; i < MANY; i++)
		transfers[i] = start_find("none", KVT_FOREVER);
	if (_i == 0)
		kvi_conn_fail(pages.bed.near.conn, KVT_E_CLOSED, 0, "closed");
	else if (_i == 1)
		kvi_conn_fail(pages.bed.far.conn, KVT_E_CLOSED, 0, "closed");
	else
		kvt_engine_stop(pages.bed.near.engine);
	for (size_t i = 0; i < MANY; i++)
		finish(transfers[i], errs[_i]);
	ck_assert_int_eq(try_import(pages.bed.near.conn, "none", 0, &refused), errs[_i]);
	kvt_remote_close(pages.remote);
	kvt_export_close(pages.exported);
	pages.remote = NULL;
	pages.exported = NULL;
	pages_close();
}
END_TEST

/* Half of the names come while all are asked for, the other half never do. */
START_TEST(many_names_are_looked_for_at_once)
{
	struct kvt_transfer *transfers[MANY];
	struct kvt_export *exports[MANY / 2];
	pages_open((unsigned)_i);
	for (size_t i = 0; i < MANY; i++) {
		char name[32];
		snprintf(name, sizeof(name), "name %zu", i);
		transfers[i] = start_find(name, KVT_FOREVER);
		if (i % 2 == 0)
			exports[i / 2] = export_named(name);
	}
	for (size_t i = 0; i < MANY; i += 2)
		kvt_remote_close(take(transfers[i]));
	for (size_t i = 1; i < MANY; i += 2) {
		ck_assert(!kvt_transfer_is_done(transfers[i]));
		kvt_transfer_free(transfers[i]);
	}
	for (size_t i = 0; i < MANY / 2; i++)
		kvt_export_close(exports[i]);
	pages_close();
}
END_TEST

/* More than an owner may have to answer at a time, and names as long as can be. */
START_TEST(no_more_is_asked_at_once_than_the_owner_can_answer)
{
	static struct kvt_transfer *transfers[20 * MANY];
	char name[KVT_NAME_LEN_MAX + 1];
	size_t count = sizeof(transfers) / sizeof(transfers[0]);
	pages_open(0);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	struct kvi_worker *far = silence_owner();
	for (size_t i = 0; i < count; i++)
		transfers[i] = start_find(name, KVT_FOREVER);
	kvi_worker_unlock(far);
	struct kvt_export *exported = export_named(name);
	for (size_t i = 0; i < count; i++)
		kvt_remote_close(take(transfers[i]));
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	kvt_export_close(exported);
	pages_close();
}
END_TEST

START_TEST(what_cannot_be_imported_is_refused_by_the_start)
{
	uint8_t bytes[BYTES_MAX];
	size_t len = sizeof(bytes);
	char longest[KVT_NAME_LEN_MAX + 2];
	struct kvt_transfer *transfer;
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	pages_open(0);
	struct kvt_conn *conn = pages.bed.near.conn;
	ck_assert_int_eq(kvt_export_describe(pages.exported, bytes, &len), KVT_OK);
	ck_assert_int_eq(kvt_import_start(&request, &transfer, NULL), KVT_E_INVALID);
	request.conn = conn;
	ck_assert_int_eq(kvt_import_start(&request, &transfer, NULL), KVT_E_INVALID);
	ck_assert_int_eq(kvt_import_start(&request, NULL, NULL), KVT_E_INVALID);
	request.name = "both";
	request.bytes = bytes;
	request.len = len;
	ck_assert_int_eq(kvt_import_start(&request, &transfer, NULL), KVT_E_INVALID);
	memset(longest, 'n', sizeof(longest));
	longest[KVT_NAME_LEN_MAX + 1] = '\0';
	ck_assert_int_eq(try_import(conn, longest, 0, &transfer), KVT_E_INVALID);
	ck_assert_int_eq(try_import(conn, "", 0, &transfer), KVT_E_INVALID);
	ck_assert_int_eq(try_import(conn, "name", -1, &transfer), KVT_E_INVALID);
	/* One of this side's own, a piece of one, and one that was altered. */
	ck_assert_int_eq(start_bytes(pages.bed.far.conn, bytes, len, &transfer), KVT_E_INVALID);
	ck_assert_int_eq(start_bytes(conn, bytes, len - 1, &transfer), KVT_E_INVALID);
	bytes[len / 2] ^= 1;
	ck_assert_int_eq(start_bytes(conn, bytes, len, &transfer), KVT_E_INVALID);
	bytes[len / 2] ^= 1;
	/* One that was withdrawn is known to the peer alone. */
	kvt_export_close(pages.exported);
	pages.exported = NULL;
	ck_assert_int_eq(start_bytes(conn, bytes, len, &transfer), KVT_OK);
	expect_failed(transfer, KVT_E_WITHDRAWN, "withdrawn");
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("import");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_name_and_a_descriptor_are_imported_without_waiting, 0, WAYS);
	tcase_add_loop_test(tests, a_name_that_is_exported_later_is_found_then, 0, MAIN_WAYS);
	tcase_add_test(tests, what_nobody_exports_is_asked_for_less_and_less_often);
	tcase_add_test(tests, answers_to_nothing_do_not_stop_questions);
	tcase_add_test(tests, an_import_ends_at_its_deadline);
	tcase_add_loop_test(tests, an_import_is_cancelled_whatever_it_waits_for, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, a_remote_that_nobody_takes_goes_with_its_transfer, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, imports_end_with_their_connection_and_their_engine, 0, 3);
	tcase_add_loop_test(tests, many_names_are_looked_for_at_once, 0, MAIN_WAYS);
	tcase_add_test(tests, no_more_is_asked_at_once_than_the_owner_can_answer);
	tcase_add_test(tests, what_cannot_be_imported_is_refused_by_the_start);
	return run_tests("engine_import", tests);
}
