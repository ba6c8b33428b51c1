/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_settings.c - what an engine's configuration may say, and the defaults. */
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "engine/core/settings.h"
#include "support/runner.h"

static const char *const interfaces[] = { "lo", "eth0" };

static struct kvt_engine_config make_config(void)
{
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	config.interfaces = interfaces;
	config.interface_count = 1;
	return config;
}

static struct kvi_settings accept(const struct kvt_engine_config *config)
{
	struct kvi_settings settings;
	struct kvt_error error;
	enum kvt_err err = kvi_settings_init(&settings, config, &error);
	ck_assert_msg(err == KVT_OK, "refused: %s", error.text);
	return settings;
}

/* The configuration is refused with a sentence that has both words, and nothing is written. */
static void refuse(const struct kvt_engine_config *config, const char *word, const char *other)
{
	struct kvi_settings settings, before;
	struct kvt_error error;
	memset(&settings, 0x5a, sizeof(settings));
	before = settings;
	ck_assert_int_eq(kvi_settings_init(&settings, config, &error), KVT_E_INVALID);
	ck_assert_int_eq(error.code, KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, word) != NULL && strstr(error.text, other) != NULL,
		      "\"%s\" does not name %s and %s", error.text, word, other);
	ck_assert_int_eq(memcmp(&settings, &before, sizeof(before)), 0);
	ck_assert_int_eq(kvi_settings_init(&settings, config, NULL), KVT_E_INVALID);
}

START_TEST(zero_means_the_default)
{
	struct kvt_engine_config config = make_config();
	struct kvi_settings settings = accept(&config);
	unsigned half = kvi_thread_get_cpu_count() / 2;
	ck_assert_uint_eq(settings.ncpus, half < 1 ? 1 : half > 4 ? 4 : half);
	ck_assert_uint_eq(settings.nconn_per_cpu, 1);
	ck_assert_uint_eq(settings.listen_port, 0);
	ck_assert_uint_eq(settings.eager_len, 64 * 1024);
	ck_assert_int_eq(settings.heartbeat_ns, KVI_SECOND);
	ck_assert_int_eq(settings.lost_after_ns, 3 * KVI_SECOND);
	ck_assert_ptr_null(settings.interrupted);
}
END_TEST

static int never(void *arg)
{
	(void)arg;
	return 0;
}

START_TEST(what_is_given_is_taken)
{
	struct kvt_engine_config config = make_config();
	unsigned cpus[] = { 0, 4095 };
	config.interface_count = 2;
	config.ncpus = 256;
	config.nconn_per_cpu = 4;
	config.listen_port = 65535;
	config.eager_len = 1024 * 1024;
	config.heartbeat_ns = KVI_MS;
	config.lost_after_ns = 2 * KVI_MS;
	config.spin_ns = 12345;
	config.cpus = cpus;
	config.cpu_count = 2;
	config.interrupted = never;
	config.interrupted_arg = cpus;
	struct kvi_settings settings = accept(&config);
	ck_assert_uint_eq(settings.ncpus, 256);
	ck_assert_uint_eq(settings.nconn_per_cpu, 4);
	ck_assert_uint_eq(settings.listen_port, 65535);
	ck_assert_uint_eq(settings.eager_len, 1024 * 1024);
	ck_assert_int_eq(settings.heartbeat_ns, KVI_MS);
	ck_assert_int_eq(settings.lost_after_ns, 2 * KVI_MS);
	ck_assert_int_eq(settings.spin_ns, 12345);
	ck_assert(!settings.spin_adapts);
	ck_assert(settings.interrupted == never && settings.interrupted_arg == cpus);
}
END_TEST

START_TEST(lane_ports_are_a_range_or_one_port)
{
	static const struct {
		const char *text;
		struct kvi_ports ports;
	} good[] = {
		{ "40000-40100", { 40000, 40100 } },
		{ "1-65535", { 1, 65535 } },
		{ "40000", { 40000, 40000 } },
		{ "40000-40000", { 40000, 40000 } },
	};
	static const char *const bad[] = { "",
					   "-",
					   "0",
					   "0-10",
					   "40100-40000",
					   "1-65536",
					   "40000-",
					   "-40000",
					   "a-b",
					   " 1-2",
					   "1-2 ",
					   "1-2-3",
					   "1,2",
					   "+1-2",
					   "1- 2",
					   "99999999999999999999-2",
					   "000001-2" };
	struct kvt_engine_config config = make_config();
	ck_assert_uint_eq(accept(&config).lane_ports.low, 0);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		config.lane_ports = good[i].text;
		struct kvi_settings settings = accept(&config);
		ck_assert_uint_eq(settings.lane_ports.low, good[i].ports.low);
		ck_assert_uint_eq(settings.lane_ports.high, good[i].ports.high);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.lane_ports = bad[i];
		refuse(&config, "lane_ports", "40000-40100");
	}
}
END_TEST

START_TEST(eager_messages_and_spinning_can_be_turned_off)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = KVT_NO_EAGER;
	config.spin_ns = KVT_NO_SPIN;
	struct kvi_settings settings = accept(&config);
	ck_assert_uint_eq(settings.eager_len, 0);
	ck_assert_int_eq(settings.spin_ns, 0);
	ck_assert(!settings.spin_adapts);
	config.spin_ns = 0;
	settings = accept(&config);
	ck_assert_int_eq(settings.spin_ns, KVI_SPIN_MOST_NS);
	ck_assert(settings.spin_adapts);
}
END_TEST

START_TEST(a_peer_is_lost_after_three_heartbeats_by_default)
{
	struct kvt_engine_config config = make_config();
	config.heartbeat_ns = 10 * KVI_SECOND;
	ck_assert_int_eq(accept(&config).lost_after_ns, 30 * KVI_SECOND);
}
END_TEST

START_TEST(interfaces_are_needed_and_have_names)
{
	static const char *const nameless[] = { "lo", "" }, *const missing[] = { "lo", NULL };
	struct kvt_engine_config config = make_config();
	config.interfaces = NULL;
	refuse(&config, "interfaces", "1 to 16");
	config = make_config();
	config.interface_count = 0;
	refuse(&config, "interfaces", "1 to 16");
	config.interface_count = 17;
	refuse(&config, "17", "1 to 16");
	config.interface_count = 2;
	config.interfaces = nameless;
	refuse(&config, "interface 1", "name");
	config.interfaces = missing;
	refuse(&config, "interface 1", "name");
}
END_TEST

START_TEST(workers_and_lanes_are_limited)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = 257;
	refuse(&config, "257", "1 to 256");
	config.ncpus = 256;
	config.nconn_per_cpu = 5;
	refuse(&config, "nconn_per_cpu", "1024");
	config.ncpus = 1;
	config.nconn_per_cpu = UINT32_MAX;
	refuse(&config, "nconn_per_cpu", "1024");
}
END_TEST

START_TEST(cpus_are_numbers_of_cpus)
{
	unsigned cpus[] = { 0, 4096 };
	struct kvt_engine_config config = make_config();
	config.cpu_count = 1;
	refuse(&config, "cpus[0]", "CPU");
	config.cpus = cpus;
	config.cpu_count = 2;
	refuse(&config, "cpus[1]", "CPU");
}
END_TEST

START_TEST(lengths_and_times_are_limited)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = 1024 * 1024 + 1;
	refuse(&config, "eager_len is 1048577", "1048576");
	config = make_config();
	config.spin_ns = -2;
	refuse(&config, "spin_ns is -2", "0");
	config = make_config();
	config.heartbeat_ns = KVI_MS - 1;
	refuse(&config, "heartbeat_ns is 999999", "1 ms to 1 hour");
	config.heartbeat_ns = -1;
	refuse(&config, "heartbeat_ns is -1", "1 ms to 1 hour");
	config.heartbeat_ns = 3600 * KVI_SECOND + 1;
	refuse(&config, "heartbeat_ns", "1 ms to 1 hour");
	config.heartbeat_ns = INT64_MAX;
	refuse(&config, "heartbeat_ns", "1 ms to 1 hour");
	config = make_config();
	config.lost_after_ns = 2 * KVI_SECOND - 1;
	refuse(&config, "lost_after_ns is 1999999999", "2000000000");
	config.lost_after_ns = -1;
	refuse(&config, "lost_after_ns is -1", "twice");
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("settings");
	tcase_add_test(tests, zero_means_the_default);
	tcase_add_test(tests, what_is_given_is_taken);
	tcase_add_test(tests, lane_ports_are_a_range_or_one_port);
	tcase_add_test(tests, eager_messages_and_spinning_can_be_turned_off);
	tcase_add_test(tests, a_peer_is_lost_after_three_heartbeats_by_default);
	tcase_add_test(tests, interfaces_are_needed_and_have_names);
	tcase_add_test(tests, workers_and_lanes_are_limited);
	tcase_add_test(tests, cpus_are_numbers_of_cpus);
	tcase_add_test(tests, lengths_and_times_are_limited);
	return run_tests("engine_settings", tests);
}
