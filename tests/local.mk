# SPDX-License-Identifier: Apache-2.0
# make check. A C test is one line in C_TESTS (its source has the same name), a Python test one in
# PYTHON_TESTS, a shell test one in SHELL_TESTS. A C test is linked with the layers as archives: what a
# test has in _SOURCES of its own (the fakes below) takes the place of the library's.

C_TESTS = \
	tests/abi/check_old \
	tests/abi/check_structs \
	tests/engine/check_abort \
	tests/engine/check_address \
	tests/engine/check_auth \
	tests/engine/check_calls \
	tests/engine/check_carried \
	tests/engine/check_checksum \
	tests/engine/check_close \
	tests/engine/check_delivery \
	tests/engine/check_detach \
	tests/engine/check_drain \
	tests/engine/check_tagged \
	tests/engine/check_tagged_hostile \
	tests/engine/check_find \
	tests/engine/check_flood \
	tests/engine/check_grid \
	tests/engine/check_import \
	tests/engine/check_flow \
	tests/engine/check_many \
	tests/engine/check_notification \
	tests/engine/check_offer \
	tests/engine/check_paged \
	tests/engine/check_paged_end \
	tests/engine/check_paged_events \
	tests/engine/check_paged_hostile \
	tests/engine/check_paged_settle \
	tests/engine/check_parts \
	tests/engine/check_pool \
	tests/engine/check_stop \
	tests/engine/check_times \
	tests/engine/check_transitions \
	tests/engine/check_windows \
	tests/engine/check_withdrawal \
	tests/engine/fuzz_lane \
	tests/engine/fuzz_session \
	tests/fabric/check_fake \
	tests/fabric/check_table \
	tests/faults/check_faults \
	tests/faults/check_paged_faults \
	tests/integration/check_path \
	tests/protocol/check_handshake \
	tests/protocol/check_malformed \
	tests/protocol/check_vectors \
	tests/protocol/fuzz_decode \
	tests/unit/check_auth_key_file \
	tests/unit/check_auth_keys \
	tests/unit/check_auth_openings \
	tests/unit/check_auth_noise \
	tests/unit/check_auth_secure \
	tests/unit/check_base_alloc \
	tests/unit/check_base_bytes \
	tests/unit/check_base_clock \
	tests/unit/check_base_copy \
	tests/unit/check_base_error \
	tests/unit/check_base_list \
	tests/unit/check_base_log \
	tests/unit/check_base_mailbox \
	tests/unit/check_base_sized \
	tests/unit/check_base_sum \
	tests/unit/check_base_table \
	tests/unit/check_base_thread \
	tests/unit/check_base_timers \
	tests/unit/check_base_wake \
	tests/unit/check_engine_flight \
	tests/unit/check_engine_motion \
	tests/unit/check_engine_patience \
	tests/unit/check_engine_plan \
	tests/unit/check_engine_plan_input \
	tests/unit/check_engine_settings \
	tests/unit/check_engine_stats \
	tests/unit/check_engine_strangers \
	tests/unit/check_perf_pool \
	tests/unit/check_perf_text \
	tests/unit/check_support

PYTHON_TESTS = \
	tests/python/test_address.py \
	tests/python/test_adopt.py \
	tests/python/test_arrays.py \
	tests/python/test_auth.py \
	tests/python/test_bench.py \
	tests/python/test_calls.py \
	tests/python/test_checksum.py \
	tests/python/test_classic.py \
	tests/python/test_connect.py \
	tests/python/test_connection.py \
	tests/python/test_delivery.py \
	tests/python/test_errors.py \
	tests/python/test_examples.py \
	tests/python/test_lifetime.py \
	tests/python/test_import.py \
	tests/python/test_info.py \
	tests/python/test_key.py \
	tests/python/test_limits.py \
	tests/python/test_main.py \
	tests/python/test_manuals.py \
	tests/python/test_nixl.py \
	tests/python/test_paged_aio.py \
	tests/python/test_paged_blocks.py \
	tests/python/test_paged_endings.py \
	tests/python/test_paged_input.py \
	tests/python/test_paged_notify.py \
	tests/python/test_paged_parts.py \
	tests/python/test_paged_pools.py \
	tests/python/test_paged_waits.py \
	tests/python/test_path.py \
	tests/python/test_readme.py \
	tests/python/test_smollm2.py \
	tests/python/test_threads.py \
	tests/python/test_transfer.py \
	tests/python/test_waits.py

SHELL_TESTS = \
	tests/abi/check_abidiff.sh \
	tests/model/check_rule_q.sh \
	tests/model/check_withdraw.sh \
	tests/shape/check_budget.sh \
	tests/shape/check_circles.sh \
	tests/shape/check_headers.sh \
	tests/shape/check_layers.sh \
	tests/shape/check_names.sh \
	tests/shape/check_style.sh \
	tests/shape/check_symbols.sh

# Stand-ins. A test that uses one names its own source, too:
# tests_unit_check_x_SOURCES = tests/unit/check_x.c $(FAKE_CLOCK)
FAILING_ALLOC = tests/support/failing_alloc.c tests/support/failing_alloc.h
FAKE_CLOCK = tests/support/fake_clock.c tests/support/fake_clock.h
FAKE_OPERATIONS = \
	tests/support/fake_delivery.c \
	tests/support/fake_fabric.c \
	tests/support/fake_fabric.h \
	tests/support/fake_internal.h \
	tests/support/fake_post.c \
	tests/support/fake_script.c
FAKE_FABRIC = $(FAKE_OPERATIONS) tests/support/fake_fabrics.c

AM_DEFAULT_SOURCE_EXT = .c
LDADD = $(KVI_ALL) $(CHECK_LIBS)

# The conformance tests of fabric.h run on the fake and, one program, on two providers.
FABRIC_CONFORMANCE = \
	tests/fabric/bed.c \
	tests/fabric/bed.h \
	tests/fabric/test_close.c \
	tests/fabric/test_connect.c \
	tests/fabric/test_lanes.c \
	tests/fabric/test_message.c \
	tests/fabric/test_rma.c \
	tests/fabric/test_sleep.c
tests_fabric_check_fake_SOURCES = tests/fabric/check_fake.c $(FABRIC_CONFORMANCE) $(FAKE_FABRIC)
tests_fabric_check_table_SOURCES = tests/fabric/check_table.c $(FABRIC_CONFORMANCE) $(FAKE_OPERATIONS)
tests_fabric_check_fabric_CPPFLAGS = $(AM_CPPFLAGS) $(LIBFABRIC_CFLAGS)
# test_strays.c counts walks over all descriptors.
tests_fabric_check_fabric_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=opendir
tests_fabric_check_fabric_SOURCES = \
	tests/fabric/check_fabric.c \
	tests/fabric/hostile.c \
	tests/fabric/hostile.h \
	tests/fabric/raw.c \
	tests/fabric/raw.h \
	tests/fabric/test_hostile.c \
	tests/fabric/test_limits.c \
	tests/fabric/test_local.c \
	tests/fabric/test_local.h \
	tests/fabric/test_raw.c \
	tests/fabric/test_shared.c \
	tests/fabric/test_strays.c \
	$(FABRIC_CONFORMANCE)
FABRIC_TESTS = \
	tests/fabric/check_fabric_local.sh \
	tests/fabric/check_fabric_sockets.sh \
	tests/fabric/check_fabric_tcp.sh

# A program of version 0.1, of whose headers there is a copy: once that is released, it never changes.
ABI_0_1 = \
	tests/abi/0.1/kvtrans.h \
	tests/abi/0.1/kvtrans_base.h \
	tests/abi/0.1/kvtrans_paged.h \
	tests/abi/0.1/libkvtrans.map
tests_abi_check_old_CPPFLAGS = -I$(top_srcdir)/tests/abi/0.1 -I$(top_srcdir)/tests
tests_abi_check_old_SOURCES = tests/abi/check_old.c
tests_abi_check_old_LDADD = src/libkvtrans.la $(CHECK_LIBS)

# The engine on the fake fabric, both sides in one process.
ENGINE_BED = tests/engine/bed.c tests/engine/bed.h $(FAILING_ALLOC) $(FAKE_FABRIC)
STAGE_BED = tests/engine/stage.c tests/engine/stage.h
# They note what is said where it is said.
ROWS = tests/engine/rows.c tests/engine/rows.h
ROWS_WRAPS = -Wl,--wrap=kvi_link_send -Wl,--wrap=kvi_link_try_send -Wl,--wrap=kvi_link_send_unlocked
tests_engine_check_transitions_LDFLAGS = $(AM_LDFLAGS) $(ROWS_WRAPS)
tests_engine_check_transitions_SOURCES = tests/engine/check_transitions.c $(ROWS) $(ENGINE_BED)
tests_engine_check_withdrawal_LDFLAGS = $(AM_LDFLAGS) $(ROWS_WRAPS)
tests_engine_check_withdrawal_SOURCES = tests/engine/check_withdrawal.c $(ROWS) $(PAGES_BED)
tests_engine_check_abort_SOURCES = tests/engine/check_abort.c $(STAGE_BED) $(ENGINE_BED)
tests_engine_check_address_SOURCES = tests/engine/check_address.c $(ENGINE_BED)
tests_engine_check_auth_SOURCES = tests/engine/check_auth.c $(ENGINE_BED)
tests_engine_check_calls_SOURCES = tests/engine/check_calls.c $(ENGINE_BED)
tests_engine_check_carried_SOURCES = tests/engine/check_carried.c $(PAGES_BED)
tests_engine_check_close_SOURCES = tests/engine/check_close.c $(ENGINE_BED)
tests_engine_check_tagged_SOURCES = tests/engine/check_tagged.c $(ENGINE_BED)
tests_engine_check_tagged_hostile_SOURCES = tests/engine/check_tagged_hostile.c $(ENGINE_BED)
tests_engine_check_many_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=kvi_registration_open
tests_engine_check_many_SOURCES = tests/engine/check_many.c $(ENGINE_BED)
tests_engine_check_flood_SOURCES = tests/engine/check_flood.c $(ENGINE_BED)
tests_engine_check_flow_SOURCES = tests/engine/check_flow.c $(ENGINE_BED)
tests_engine_check_windows_SOURCES = tests/engine/check_windows.c $(ENGINE_BED)
tests_engine_check_stop_SOURCES = tests/engine/check_stop.c $(ENGINE_BED)
PAGES_BED = tests/engine/pages.c tests/engine/pages.h $(ENGINE_BED)
# Programs that flip bits between an engine and its fabric.
FLIP = tests/support/flip.c tests/support/flip.h
FLIP_LINK = $(AM_LDFLAGS) \
	-Wl,--wrap=kvi_lane_post_send,--wrap=kvi_lane_inject,--wrap=kvi_lane_post_write \
	-Wl,--wrap=kvi_lane_post_read,--wrap=kvi_cq_poll,--wrap=kvi_lane_get_common,--wrap=kvi_lane_close \
	-Wl,--wrap=kvi_sum
tests_engine_check_checksum_LDFLAGS = $(FLIP_LINK)
tests_engine_check_checksum_SOURCES = tests/engine/check_checksum.c $(FLIP) $(PAGES_BED)
tests_abi_check_structs_SOURCES = tests/abi/check_structs.c $(PAGES_BED)
tests_engine_check_delivery_SOURCES = tests/engine/check_delivery.c $(PAGES_BED)
tests_engine_check_find_SOURCES = tests/engine/check_find.c $(PAGES_BED)
tests_engine_check_grid_LDFLAGS = $(FLIP_LINK)
tests_engine_check_grid_SOURCES = tests/engine/check_grid.c $(FLIP) $(PAGES_BED)
tests_engine_check_import_SOURCES = tests/engine/check_import.c $(PAGES_BED)
tests_engine_check_paged_events_SOURCES = tests/engine/check_paged_events.c $(PAGES_BED)
tests_engine_check_paged_hostile_SOURCES = tests/engine/check_paged_hostile.c $(PAGES_BED)
tests_engine_check_drain_SOURCES = tests/engine/check_drain.c $(STAGE_BED) $(PAGES_BED)
tests_engine_check_paged_settle_SOURCES = tests/engine/check_paged_settle.c $(PAGES_BED)
tests_engine_check_detach_SOURCES = tests/engine/check_detach.c $(PAGES_BED)
tests_engine_check_parts_SOURCES = tests/engine/check_parts.c $(PAGES_BED)
tests_engine_check_pool_SOURCES = tests/engine/check_pool.c $(PAGES_BED)
tests_engine_check_notification_SOURCES = tests/engine/check_notification.c $(PAGES_BED)
tests_engine_check_offer_SOURCES = tests/engine/check_offer.c $(PAGES_BED)
tests_engine_check_paged_end_SOURCES = tests/engine/check_paged_end.c $(PAGES_BED)
tests_engine_check_times_SOURCES = tests/engine/check_times.c $(PAGES_BED)
tests_engine_check_paged_SOURCES = tests/engine/check_paged.c $(PAGES_BED)
FAULTS = tests/faults/faults.c tests/faults/faults.h $(ENGINE_BED)
tests_faults_check_faults_SOURCES = tests/faults/check_faults.c $(FAULTS)
tests_faults_check_paged_faults_SOURCES = tests/faults/check_paged_faults.c $(FAULTS)

# Two processes over the public API and the shared library; one program, on two providers.
tests_integration_check_integration_SOURCES = \
	tests/integration/bed.c \
	tests/integration/bed.h \
	tests/integration/cable.c \
	tests/integration/cable.h \
	tests/integration/check_integration.c \
	tests/integration/pair.c \
	tests/integration/pair.h \
	tests/integration/raw.c \
	tests/integration/raw.h \
	tests/integration/test_abort.c \
	tests/integration/test_death.c \
	tests/integration/test_delivery.c \
	tests/integration/test_descriptors.c \
	tests/integration/test_tagged.c \
	tests/integration/test_fault.c \
	tests/integration/test_orderly_close.c \
	tests/integration/test_growth.c \
	tests/integration/test_input.c \
	tests/integration/test_limit.c \
	tests/integration/test_loss.c \
	tests/integration/test_many.c \
	tests/integration/test_memory.c \
	tests/integration/test_network.c \
	tests/integration/test_notification.c \
	tests/integration/test_paged.c \
	tests/integration/test_patience.c \
	tests/integration/test_process.c \
	tests/integration/test_refusal.c \
	tests/integration/test_slow.c \
	tests/integration/test_strangers.c \
	tests/integration/test_traffic.c
tests_integration_check_integration_CPPFLAGS = $(AM_CPPFLAGS) $(LIBFABRIC_CFLAGS)
tests_integration_check_integration_LDADD = src/libkvtrans.la $(LIBFABRIC_LIBS) $(CHECK_LIBS)
# Two processes, and peers that are no engines: these write frames.
tests_integration_check_path_SOURCES = \
	tests/integration/bed.c \
	tests/integration/bed.h \
	tests/integration/cable.c \
	tests/integration/cable.h \
	tests/integration/check_path.c \
	tests/integration/check_path.h \
	tests/integration/pair.c \
	tests/integration/pair.h \
	tests/integration/raw.c \
	tests/integration/raw.h \
	tests/integration/test_path_raw.c
tests_integration_check_flip_LDFLAGS = $(FLIP_LINK)
tests_integration_check_flip_SOURCES = tests/integration/check_flip.c $(FLIP)
INTEGRATION_TESTS = \
	tests/integration/check_flip_local.sh \
	tests/integration/check_flip_sockets.sh \
	tests/integration/check_flip_tcp.sh \
	tests/integration/check_integration_local.sh \
	tests/integration/check_integration_sockets.sh \
	tests/integration/check_integration_tcp.sh

PROTOCOL_SUPPORT = \
	tests/protocol/codec.c \
	tests/protocol/codec.h \
	tests/protocol/vectors.c \
	tests/protocol/vectors.h
tests_protocol_check_handshake_SOURCES = tests/protocol/check_handshake.c $(PROTOCOL_SUPPORT)
tests_protocol_check_malformed_SOURCES = tests/protocol/check_malformed.c $(PROTOCOL_SUPPORT)
tests_protocol_check_vectors_SOURCES = tests/protocol/check_vectors.c $(PROTOCOL_SUPPORT)

# Targets of libFuzzer, which --enable-fuzzers links them with; else fuzz_main.c drives them.
if ENABLE_FUZZERS
FUZZ_MAIN = tests/support/fuzz.h
else
FUZZ_MAIN = tests/support/fuzz.h tests/support/fuzz_main.c
endif
FUZZ_LINK = $(AM_LDFLAGS) $(FUZZ_LIBS)
tests_engine_fuzz_session_LDFLAGS = $(FUZZ_LINK)
tests_engine_fuzz_session_SOURCES = \
	tests/engine/fuzz_session.c \
	$(FUZZ_MAIN) $(FAILING_ALLOC) $(FAKE_FABRIC)
tests_engine_fuzz_lane_LDFLAGS = $(FUZZ_LINK)
tests_engine_fuzz_lane_SOURCES = \
	tests/engine/fuzz_lane.c \
	tests/support/guarded.h \
	$(FUZZ_MAIN) $(FAILING_ALLOC) $(FAKE_FABRIC)
tests_protocol_fuzz_decode_LDFLAGS = $(FUZZ_LINK)
tests_protocol_fuzz_decode_SOURCES = tests/protocol/fuzz_decode.c $(FUZZ_MAIN) $(PROTOCOL_SUPPORT)

tests_unit_check_auth_key_file_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tests_unit_check_auth_keys_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tests_unit_check_auth_noise_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tests_unit_check_auth_secure_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tests_unit_check_auth_noise_SOURCES = tests/unit/check_auth_noise.c tests/unit/noise_vectors.h

PLAN_REQUESTS = tests/unit/plan_requests.h
tests_unit_check_engine_plan_SOURCES = tests/unit/check_engine_plan.c $(PLAN_REQUESTS)
tests_unit_check_engine_plan_input_SOURCES = tests/unit/check_engine_plan_input.c $(PLAN_REQUESTS)
tests_unit_check_perf_pool_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/bench
tests_unit_check_perf_pool_SOURCES = tests/unit/check_perf_pool.c bench/perf_pool.c bench/perf_pool.h
tests_unit_check_perf_text_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/bench
tests_unit_check_perf_text_SOURCES = tests/unit/check_perf_text.c bench/perf_report.c bench/perf_report.h
tests_unit_check_perf_text_LDADD = $(LDADD) -lm
tests_unit_check_base_table_SOURCES = tests/unit/check_base_table.c $(FAILING_ALLOC)
tests_unit_check_base_timers_SOURCES = tests/unit/check_base_timers.c $(FAILING_ALLOC)
tests_unit_check_engine_motion_SOURCES = tests/unit/check_engine_motion.c $(FAKE_CLOCK)
tests_unit_check_engine_strangers_SOURCES = tests/unit/check_engine_strangers.c $(FAILING_ALLOC)
tests_unit_check_support_SOURCES = tests/unit/check_support.c $(FAILING_ALLOC) $(FAKE_CLOCK)

if HAVE_CHECK
check_PROGRAMS += $(C_TESTS) tests/fabric/check_fabric tests/integration/check_flip \
	tests/integration/check_integration
else
# Not built: run_check.sh skips each by name.
$(C_TESTS):
	@:
endif
TESTS += $(C_TESTS) $(FABRIC_TESTS) $(INTEGRATION_TESTS) $(PYTHON_TESTS) $(SHELL_TESTS)

# Each layer, and each room of the engine, linked with those below it and nothing else.
check_LTLIBRARIES += \
	tests/layers/base.la \
	tests/layers/wire.la \
	tests/layers/fabric.la \
	tests/layers/auth.la \
	tests/layers/core.la \
	tests/layers/progress.la \
	tests/layers/lane.la \
	tests/layers/transfer.la \
	tests/layers/tagged.la \
	tests/layers/paged.la \
	tests/layers/conn.la
LAYER_LDFLAGS = $(AM_LDFLAGS) $(NO_UNDEFINED_LDFLAGS) -module -avoid-version -shared -rpath $(libdir)

tests_layers_base_la_SOURCES =
tests_layers_base_la_LIBADD = $(KVI_BASE)
tests_layers_base_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_wire_la_SOURCES =
tests_layers_wire_la_LIBADD = $(KVI_WIRE)
tests_layers_wire_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_fabric_la_SOURCES =
tests_layers_fabric_la_LIBADD = $(KVI_FABRIC)
tests_layers_fabric_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_auth_la_SOURCES =
tests_layers_auth_la_LIBADD = $(KVI_AUTH)
tests_layers_auth_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_core_la_SOURCES =
tests_layers_core_la_LIBADD = $(KVI_CORE)
tests_layers_core_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_progress_la_SOURCES =
tests_layers_progress_la_LIBADD = $(KVI_PROGRESS)
tests_layers_progress_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_lane_la_SOURCES =
tests_layers_lane_la_LIBADD = $(KVI_LANE)
tests_layers_lane_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_transfer_la_SOURCES =
tests_layers_transfer_la_LIBADD = $(KVI_TRANSFER)
tests_layers_transfer_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_tagged_la_SOURCES =
tests_layers_tagged_la_LIBADD = $(KVI_TAGGED)
tests_layers_tagged_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_paged_la_SOURCES =
tests_layers_paged_la_LIBADD = $(KVI_PAGED)
tests_layers_paged_la_LDFLAGS = $(LAYER_LDFLAGS)
tests_layers_conn_la_SOURCES =
tests_layers_conn_la_LIBADD = $(KVI_CONN)
tests_layers_conn_la_LDFLAGS = $(LAYER_LDFLAGS)

TEST_EXTENSIONS = .sh .py
AM_TESTS_ENVIRONMENT = . ./tests/env.sh;

# The key that tests made for themselves.
clean-local: clean-test-key
.PHONY: clean-test-key
clean-test-key:
	rm -rf tests/config

# A test that hangs is ended, with its children. Check's own limits do not hold without fork.
TEST_TIMEOUT = 2400
RUN_TEST = timeout --kill-after=10 $(TEST_TIMEOUT)
LOG_COMPILER = $(RUN_TEST) $(SHELL) $(top_srcdir)/tests/support/run_check.sh
SH_LOG_COMPILER = $(RUN_TEST)
PY_LOG_COMPILER = $(RUN_TEST) $(SHELL) $(top_srcdir)/tests/support/run_pytest.sh

EXTRA_DIST += \
	$(PYTHON_TESTS) \
	tests/python/conftest.py \
	tests/engine/corpus-lane \
	tests/engine/corpus-session \
	tests/protocol/corpus \
	tests/mutation/check_mutation.sh \
	tests/support/analyze.sh \
	tests/support/check_long.sh \
	tests/support/check_valgrind.sh \
	tests/support/coverage.sh \
	tests/support/soak.sh \
	$(SHELL_TESTS) $(FABRIC_TESTS) $(INTEGRATION_TESTS) \
	$(ABI_0_1) \
	tests/model/model.sh \
	tests/model/rule_q.pml \
	tests/model/tell.pml \
	tests/model/transitions.list \
	tests/model/withdraw.pml \
	tests/shape/shape.sh \
	tests/support/run_check.sh \
	tests/support/run_pytest.sh \
	tests/support/punctual.h \
	tests/support/runner.h \
	tests/support/summary.sh \
	tests/support/lsan.supp \
	tests/support/tsan.supp

# What looks at the tests, and at the code without running it; both are a part of check-long.
.PHONY: analyze check-mutation check-storm check-valgrind coverage soak
analyze:
	$(top_srcdir)/tests/support/analyze.sh $(top_srcdir)
# NUMBERS="3 7": these alone.
check-mutation:
	$(top_srcdir)/tests/mutation/check_mutation.sh $(top_srcdir) $(NUMBERS)

coverage:
	$(top_srcdir)/tests/support/coverage.sh $(top_srcdir)

# Those that drive programs of the tests: build them first.
check-valgrind: $(C_TESTS)
	$(top_srcdir)/tests/support/check_valgrind.sh
# KVT_TEST_ROUNDS of each storm, KVT_TEST_MINUTES of the soak.
check-storm soak: tests/integration/check_integration
	$(top_srcdir)/tests/support/soak.sh $@

# What takes long, on a machine that nobody else uses.
.PHONY: check-long
check-long:
	+@MAKE='$(MAKE)' $(top_srcdir)/tests/support/check_long.sh $(top_srcdir)

include tests/nixl/local.mk
include tests/package/local.mk
include tests/distro/local.mk
include tests/verbs-vm/local.mk
