/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_table.c - several fabrics in one process: whose rail it is decides, and nobody notices the other.
 */
#include "bed.h"

#include "../support/fake_fabric.h"
#include "support/runner.h"

enum { LEN = 1 << 20, WRITES = 16 };

const struct kvi_fabric *const kvi_fabrics[] = { &fake_fabric, &kvi_ofi_fabric, NULL };

/* Two sides of a fabric, and writes between them. */
struct traffic {
	struct bed bed;
	struct end near;
	struct end far;
	struct area source;
	struct area target;
	struct act acts[WRITES];
	size_t len;
};

static void traffic_open(struct traffic *traffic, const char *provider, uint32_t seed)
{
	bed_provider = provider;
	bed_open(&traffic->bed);
	bed_connect(&traffic->bed, &traffic->near, &traffic->far);
	area_open(&traffic->source, &traffic->bed.near, LEN, KVI_ACCESS_LOCAL, 0);
	area_open(&traffic->target, &traffic->bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, 0);
	fill_pattern(traffic->source.base, LEN, seed);
	traffic->len = LEN / WRITES;
}

static void traffic_close(struct traffic *traffic)
{
	end_close(&traffic->near);
	end_close(&traffic->far);
	bed_run(&traffic->bed, KVI_MS);
	area_close(&traffic->source);
	area_close(&traffic->target);
	bed_close(&traffic->bed);
}

static void write_part(struct traffic *traffic, size_t i)
{
	struct kvi_rkey rkey = traffic->target.rkey;
	rkey.address += i * traffic->len;
	post_write(&traffic->near, &traffic->acts[i], &traffic->source, i * traffic->len,
		   traffic->len, rkey);
}

START_TEST(rails_of_several_fabrics_serve_side_by_side)
{
	static struct traffic fake, tcp;
	traffic_open(&fake, "fake", 1);
	traffic_open(&tcp, "tcp", 2);
	for (size_t i = 0; i < WRITES; i++) {
		write_part(&fake, i);
		write_part(&tcp, i);
	}
	bed_wait(&fake.bed, count_reported(fake.acts, WRITES) == WRITES);
	bed_wait(&tcp.bed, count_reported(tcp.acts, WRITES) == WRITES);
	ck_assert(holds_pattern(fake.target.base, LEN, 1));
	ck_assert(holds_pattern(tcp.target.base, LEN, 2));
	traffic_close(&fake);
	ck_assert(fake_is_empty());
	traffic_close(&tcp);
}
END_TEST

START_TEST(a_provider_is_found_in_the_fabric_that_has_it)
{
	static const char *const cases[][2] = {
		{ NULL, "fake" }, { "fake", "fake" }, { "tcp", "tcp" }, { "sockets", "sockets" }
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct kvi_rail *rail = NULL;
		ck_assert_int_eq(kvi_rail_open("lo", cases[i][0], &rail, NULL), KVT_OK);
		ck_assert_str_eq(kvi_rail_get_caps(rail)->provider, cases[i][1]);
		kvi_rail_close(rail);
	}
}
END_TEST

START_TEST(a_provider_of_no_fabric_is_refused)
{
	struct kvi_rail *rail = NULL;
	struct kvt_error error = { .code = KVT_OK };
	ck_assert_int_eq(kvi_rail_open("lo", "pigeons", &rail, &error), KVT_E_NO_PROVIDER);
	ck_assert_ptr_nonnull(strstr(error.text, "pigeons"));
	ck_assert_ptr_null(rail);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("table");
	tcase_add_test(tests, rails_of_several_fabrics_serve_side_by_side);
	tcase_add_test(tests, a_provider_is_found_in_the_fabric_that_has_it);
	tcase_add_test(tests, a_provider_of_no_fabric_is_refused);
	bed_interface = "lo";
	return run_tests("table", tests);
}
