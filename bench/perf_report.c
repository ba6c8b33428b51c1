/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_report.c - see perf_report.h. It computes rates from what was counted and never measures.
 */
#include "perf_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "perf_text.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* What this network namespace gives a new TCP connection: the figures over tcp depend on it. */
static void read_congestion_control(char *name, size_t len)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_congestion_control", "re");

	snprintf(name, len, "unknown");
	if (!file)
		return;
	if (fgets(name, (int)len, file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
}

static double scale(int64_t value_ns, double unit_ns)
{
	return value_ns < 0 ? NAN : (double)value_ns / unit_ns;
}

static double get_rate(const struct perf_report *report)
{
	bool moved = report->bytes && report->elapsed_ns > 0 && !strcmp(report->mode, "throughput");

	return moved ? (double)report->bytes / (double)report->elapsed_ns : NAN;
}

static double get_cpu_cost(const struct perf_report *report)
{
	if (!report->bytes || report->cpu_ns < 0 || report->peer_cpu_ns < 0)
		return NAN;
	return (double)(report->cpu_ns + report->peer_cpu_ns) / 1e9 / ((double)report->bytes / GIB);
}

/* The busier of both processes, in percent of one core. */
static double get_cpu_percent(const struct perf_report *report)
{
	int64_t own = report->cpu_ns;
	int64_t peer = report->peer_cpu_ns;

	if (own < 0 || peer < 0 || report->elapsed_ns <= 0)
		return NAN;
	return 100 * (double)(own > peer ? own : peer) / (double)report->elapsed_ns;
}

static void print_number(const char *key, double value)
{
	if (isnan(value))
		printf(", \"%s\": null", key);
	else
		printf(", \"%s\": %.6g", key, value);
}

static const char *name_bool(bool value)
{
	return value ? "true" : "false";
}

static double get_block_rate(const struct perf_report *report)
{
	return report->elapsed_ns > 0 ? (double)report->messages * 1e9 / (double)report->elapsed_ns
				      : NAN;
}

static void print_paged_json(const struct perf_report *report)
{
	printf(", \"pattern\": \"%s\", \"transfers\": %llu", report->pattern,
	       (unsigned long long)report->transfers);
	print_number("blocks_per_s", get_block_rate(report));
	print_number("submit_us_p50", scale(report->submit_ns, 1e3));
	print_number("submit_us_p99", scale(report->submit_p99_ns, 1e3));
	print_number("notified_us_p50", scale(report->notified_p50_ns, 1e3));
	print_number("notified_us_p99", scale(report->notified_p99_ns, 1e3));
}

static void print_json(const struct perf_report *report)
{
	char congestion_control[32];

	read_congestion_control(congestion_control, sizeof(congestion_control));
	printf("{\"tool\": \"%s\", \"op\": \"%s\", \"mode\": \"%s\", \"provider\": \"%s\"",
	       report->tool, report->op, report->mode, report->provider);
	printf(", \"block_bytes\": %zu, \"segment_bytes\": 0, \"count\": %zu, \"depth\": %u",
	       report->block_len, report->count, report->depth);
	printf(", \"messages\": %llu, \"bytes\": %llu", (unsigned long long)report->messages,
	       (unsigned long long)report->bytes);
	print_number("seconds", scale(report->elapsed_ns, 1e9));
	print_number("receiver_seconds", scale(report->receiver_ns, 1e9));
	print_number("gb_per_s", get_rate(report));
	print_number("us_p50", scale(report->p50_ns, 1e3));
	print_number("us_p99", scale(report->p99_ns, 1e3));
	print_number("cpu_s_per_gib", get_cpu_cost(report));
	print_number("cpu_percent", get_cpu_percent(report));
	if (report->transfers)
		print_paged_json(report);
	if (report->memory_len > 0)
		printf(", \"memory_bytes\": %lld", (long long)report->memory_len);
	if (report->beside)
		printf(", \"beside\": %u, \"beside_bytes\": %lld", report->beside,
		       (long long)report->beside_len);
	printf(", \"spin\": %s, \"verified\": %s, \"interrupted\": %s", name_bool(report->spin),
	       name_bool(report->verified), name_bool(report->interrupted));
	printf(", \"congestion_control\": \"%s\", \"lanes\": %u}\n", congestion_control,
	       report->lanes);
}

static void print_line(const char *label, const char *text)
{
	printf("%-22s %s\n", label, text);
}

/* unit: what it is the time of, "/GiB". */
static void print_time(const char *label, double ns, const char *unit)
{
	char text[PERF_TEXT_LEN];

	if (!isnan(ns))
		printf("%-22s %s%s\n", label, perf_text_time(text, ns), unit);
}

static void print_count(const char *label, uint64_t count)
{
	char text[PERF_TEXT_LEN];

	print_line(label, perf_text_count(text, (double)count));
}

static bool is_notify(const struct perf_report *report)
{
	return !strcmp(report->op, "notify");
}

/* In bytes, and, where they were blocks, in blocks. */
static void print_rates(const struct perf_report *report)
{
	char bytes[PERF_TEXT_LEN] = "";
	char blocks[PERF_TEXT_LEN];
	bool has_bytes = !isnan(get_rate(report)) && !is_notify(report);
	bool has_blocks = report->transfers && !isnan(get_block_rate(report));

	if (has_bytes)
		perf_text_rate(bytes, get_rate(report) * 1e9);
	if (has_blocks)
		printf("%-22s %s%s%s %s a second\n", "rate", bytes, has_bytes ? ", " : "",
		       perf_text_count(blocks, get_block_rate(report)),
		       is_notify(report) ? "notifications" : "blocks");
	else if (has_bytes)
		print_line("rate", bytes);
}

static void print_job(const struct perf_report *report, bool latency)
{
	char size[PERF_TEXT_LEN];
	bool has_blocks = report->transfers && !is_notify(report);

	perf_text_size(size, report->block_len);
	if (report->block_len && (latency || is_notify(report)))
		print_line("message", size);
	else if (report->block_len)
		printf("%-22s %s each, %zu a batch, %u in flight\n", "blocks", size, report->count,
		       report->depth);
	if (has_blocks) {
		print_line("pattern", report->pattern);
		print_count("transfers", report->transfers);
	}
	if (report->messages)
		print_count(latency	 ? "round trips"
			    : has_blocks ? "blocks moved"
					 : "messages",
			    report->messages);
}

static void print_table(const struct perf_report *report)
{
	bool latency = !strcmp(report->mode, "latency");
	char size[PERF_TEXT_LEN];

	printf("%s: %s %s over %s, %u lane%s%s%s\n", report->tool, report->op, report->mode,
	       report->provider, report->lanes, report->lanes == 1 ? "" : "s",
	       report->verified ? ", every byte checked" : "",
	       report->interrupted ? ", interrupted" : "");
	print_job(report, latency);
	print_time("time", scale(report->elapsed_ns, 1), "");
	print_time("time at the receiver", scale(report->receiver_ns, 1), "");
	print_rates(report);
	print_time(latency ? "one way, median" : "time each, median", scale(report->p50_ns, 1), "");
	print_time(latency ? "one way, 99 %" : "time each, 99 %", scale(report->p99_ns, 1), "");
	if (report->transfers) {
		print_time("submit, median", scale(report->submit_ns, 1), "");
		print_time("receiver knows, median", scale(report->notified_p50_ns, 1), "");
		print_time("receiver knows, 99 %", scale(report->notified_p99_ns, 1), "");
	}
	if (report->beside) {
		print_count("connections beside", report->beside);
		size_t kib = ((size_t)report->beside_len + 512) / 1024;
		print_line("memory of each", perf_text_size(size, kib * 1024));
	}
	print_time("CPU, both sides",
		   latency || is_notify(report) ? NAN : get_cpu_cost(report) * 1e9, " a GiB");
	if (!strcmp(report->mode, "idle") && !isnan(get_cpu_percent(report)))
		printf("%-22s %.3g %% of a core\n", "CPU, busier side", get_cpu_percent(report));
}

void perf_report_print(const struct perf_report *report, bool json)
{
	if (json)
		print_json(report);
	else
		print_table(report);
	fflush(stdout);
}

void perf_progress(uint64_t bytes, int64_t elapsed_ns, int64_t planned_ns)
{
	if (!isatty(STDERR_FILENO) || elapsed_ns <= 0)
		return;
	char rate[PERF_TEXT_LEN];
	perf_text_rate(rate, (double)bytes * 1e9 / (double)elapsed_ns);
	fprintf(stderr, "\r%5.1f of %.1f s  %10s ", (double)elapsed_ns / 1e9,
		(double)planned_ns / 1e9, rate);
}

void perf_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
