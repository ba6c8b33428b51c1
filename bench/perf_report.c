/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_report.c - see perf_report.h.
 */
#include "perf_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of what a figure is shown to people. */
enum { SENDS = 1, PINGS = 2, BLOCKS = 4, NOTES = 8, CONNECTS = 16, IDLE = 32, ALL = 63 };

static const struct field {
	enum perf_figure figure;
	enum perf_unit unit;
	const char *key; /* in JSON; NULL: another row has it */
	double scale;	 /* there it is of this many of ours */
	const char *label;
	unsigned shown; /* of what; 0: to programs alone */
	const char *behind;
} fields[] = {
	{ PERF_BLOCK_LEN, PERF_SIZE, "block_bytes", 1, "message", SENDS | PINGS | NOTES, "" },
	{ PERF_BLOCK_LEN, PERF_SIZE, NULL, 1, "block", BLOCKS, "" },
	{ PERF_COUNT, PERF_EXACT, "count", 1, "blocks a transfer", BLOCKS, "" },
	{ PERF_DEPTH, PERF_EXACT, "depth", 1, "in flight", SENDS | BLOCKS | NOTES, "" },
	{ PERF_LANES, PERF_NUMBER, "lanes", 1, NULL, 0, "" },
	{ PERF_TRANSFERS, PERF_NUMBER, "transfers", 1, "transfers", BLOCKS, "" },
	{ PERF_MESSAGES, PERF_NUMBER, "messages", 1, "messages", SENDS | NOTES, "" },
	{ PERF_MESSAGES, PERF_NUMBER, NULL, 1, "blocks moved", BLOCKS, "" },
	{ PERF_MESSAGES, PERF_NUMBER, NULL, 1, "round trips", PINGS, "" },
	{ PERF_MESSAGES, PERF_NUMBER, NULL, 1, "connects", CONNECTS, "" },
	{ PERF_BYTES, PERF_NUMBER, "bytes", 1, NULL, 0, "" },
	{ PERF_ELAPSED, PERF_TIME, "seconds", 1e9, "time", ALL, "" },
	{ PERF_RECEIVER, PERF_TIME, "receiver_seconds", 1e9, "time at the receiver", ALL, "" },
	{ PERF_RATE, PERF_BYTE_RATE, "gb_per_s", 1e9, "rate", SENDS | BLOCKS, "" },
	{ PERF_BLOCK_RATE, PERF_NUMBER, "blocks_per_s", 1, "blocks a second", BLOCKS, "" },
	{ PERF_BLOCK_RATE, PERF_NUMBER, NULL, 1, "notifications a second", NOTES, "" },
	{ PERF_P50, PERF_TIME, "us_p50", 1e3, "time each, median", ALL & ~PINGS, "" },
	{ PERF_P99, PERF_TIME, "us_p99", 1e3, "time each, 99 %", ALL & ~PINGS, "" },
	{ PERF_P50, PERF_TIME, NULL, 1e3, "one way, median", PINGS, "" },
	{ PERF_P99, PERF_TIME, NULL, 1e3, "one way, 99 %", PINGS, "" },
	{ PERF_SUBMIT_P50, PERF_TIME, "submit_us_p50", 1e3, "submit, median", ALL, "" },
	{ PERF_SUBMIT_P99, PERF_TIME, "submit_us_p99", 1e3, NULL, 0, "" },
	{ PERF_NOTIFIED_P50, PERF_TIME, "notified_us_p50", 1e3, "receiver knows, median", ALL, "" },
	{ PERF_NOTIFIED_P99, PERF_TIME, "notified_us_p99", 1e3, "receiver knows, 99 %", ALL, "" },
	{ PERF_BESIDE, PERF_NUMBER, "beside", 1, "connections beside", ALL, "" },
	{ PERF_BESIDE_LEN, PERF_NUMBER, "beside_bytes", 1, "memory of each", ALL, " bytes" },
	{ PERF_MEMORY, PERF_NUMBER, "memory_bytes", 1, NULL, 0, "" },
	{ PERF_CPU_COST, PERF_TIME, "cpu_s_per_gib", 1e9, "CPU, both sides", SENDS | BLOCKS,
	  " a GiB" },
	{ PERF_CPU_PERCENT, PERF_PERCENT, "cpu_percent", 1, "CPU, busier side", IDLE,
	  " of a core" },
};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

void perf_report_init(struct perf_report *report, const char *tool, const char *provider)
{
	*report = (struct perf_report){ .tool = tool, .provider = provider, .op = "connection" };
	for (unsigned i = 0; i < PERF_FIGURES; i++)
		report->figures[i] = NAN;
	report->figures[PERF_LANES] = 1;
}

void perf_report_set_time(struct perf_report *report, int64_t elapsed_ns, int64_t cpu_ns,
			  int64_t peer_cpu_ns)
{
	double *figures = report->figures;
	double elapsed = elapsed_ns > 0 ? (double)elapsed_ns : NAN;
	double bytes = figures[PERF_BYTES] > 0 ? figures[PERF_BYTES] : NAN;

	figures[PERF_ELAPSED] = elapsed;
	if (!strcmp(report->mode, "throughput"))
		figures[PERF_RATE] = bytes * 1e9 / elapsed;
	if (figures[PERF_TRANSFERS] > 0)
		figures[PERF_BLOCK_RATE] = figures[PERF_MESSAGES] * 1e9 / elapsed;
	figures[PERF_CPU_COST] = (double)(cpu_ns + peer_cpu_ns) / bytes * 0x1p30;
	figures[PERF_CPU_PERCENT] =
		100 * (double)(cpu_ns > peer_cpu_ns ? cpu_ns : peer_cpu_ns) / elapsed;
}

/* ---- numbers ---- */

static double round_to_digits(double value)
{
	char text[PERF_TEXT_LEN];

	snprintf(text, sizeof(text), "%.2e", value);
	return strtod(text, NULL);
}

/* What was chosen, and so exact. */
static void put_size(char text[PERF_TEXT_LEN], double len)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB" };
	unsigned i = 0;

	for (; i < 3 && len >= 1024 && fmod(len, 1024) == 0; i++)
		len /= 1024;
	snprintf(text, PERF_TEXT_LEN, "%.0f %s", len, units[i]);
}

const char *perf_text(char text[PERF_TEXT_LEN], enum perf_unit unit, double value)
{
	static const char *const units[][6] = {
		[PERF_TIME] = { "ns", "us", "ms", "s" },
		[PERF_BYTE_RATE] = { "B/s", "kB/s", "MB/s", "GB/s", "TB/s" },
		[PERF_NUMBER] = { "", "thousand", "million", "billion" },
		[PERF_PERCENT] = { "%" },
	};
	unsigned i = 0;

	if (unit == PERF_SIZE) {
		put_size(text, value);
		return text;
	}
	if (unit == PERF_EXACT || (unit == PERF_NUMBER && value < 999.5 && value == floor(value))) {
		snprintf(text, PERF_TEXT_LEN, "%.0f", value);
		return text;
	}
	/* The first unit, each 1,000 of the one before, in which what is left is less than 1,000; or the last. */
	value = round_to_digits(value);
	for (; units[unit][i + 1] && value >= 1000; i++)
		value = round_to_digits(value / 1000);
	int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
	/* What is less than one of the first keeps its digits behind the zeros. */
	for (double left = value; left > 0 && left < 0.999; left *= 10)
		decimals++;
	snprintf(text, PERF_TEXT_LEN, "%.*f%s%s", decimals, value, units[unit][i][0] ? " " : "",
		 units[unit][i]);
	return text;
}

/* ---- showing ---- */

static unsigned get_view(const struct perf_report *report)
{
	if (!strcmp(report->mode, "latency"))
		return PINGS;
	if (!strcmp(report->mode, "connect"))
		return CONNECTS;
	if (!strcmp(report->mode, "idle"))
		return IDLE;
	if (!strcmp(report->op, "notify"))
		return NOTES;
	return report->pattern ? BLOCKS : SENDS;
}

static void print_text(const struct perf_report *report)
{
	unsigned view = get_view(report), lanes = (unsigned)report->figures[PERF_LANES];
	char text[PERF_TEXT_LEN];

	printf("%s: %s %s over %s, %u lane%s%s%s\n", report->tool, report->op, report->mode,
	       report->provider, lanes, lanes == 1 ? "" : "s",
	       report->verified ? ", every byte checked" : "",
	       report->interrupted ? ", interrupted" : "");
	if (view == BLOCKS)
		printf("%-22s %s\n", "pattern", report->pattern);
	for (const struct field *field = fields; field < fields + FIELDS; field++) {
		double value = report->figures[field->figure];
		if (field->shown & view && !isnan(value))
			printf("%-22s %s%s\n", field->label, perf_text(text, field->unit, value),
			       field->behind);
	}
}

/* What this network namespace gives a new TCP connection: the figures over tcp depend on it. */
static void read_congestion_control(char *name, size_t len)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_congestion_control", "re");

	snprintf(name, len, "unknown");
	if (file && fgets(name, (int)len, file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
}

static void print_json(const struct perf_report *report)
{
	char congestion_control[32];

	read_congestion_control(congestion_control, sizeof(congestion_control));
	printf("{\"tool\": \"%s\", \"op\": \"%s\", \"mode\": \"%s\", \"provider\": \"%s\"",
	       report->tool, report->op, report->mode, report->provider);
	printf(", \"pattern\": %s%s%s", report->pattern ? "\"" : "",
	       report->pattern ? report->pattern : "null", report->pattern ? "\"" : "");
	for (const struct field *field = fields; field < fields + FIELDS; field++) {
		double value = report->figures[field->figure] / field->scale;
		if (field->key && isnan(value))
			printf(", \"%s\": null", field->key);
		else if (field->key)
			printf(", \"%s\": %.*g", field->key, value == floor(value) ? 17 : 6, value);
	}
	printf(", \"verified\": %s, \"interrupted\": %s, \"congestion_control\": \"%s\"}\n",
	       report->verified ? "true" : "false", report->interrupted ? "true" : "false",
	       congestion_control);
}

void perf_report_print(const struct perf_report *report, bool json)
{
	(json ? print_json : print_text)(report);
	fflush(stdout);
}

void perf_progress(double bytes, int64_t elapsed_ns, int64_t planned_ns)
{
	char rate[PERF_TEXT_LEN];

	if (!isatty(STDERR_FILENO) || elapsed_ns <= 0)
		return;
	perf_text(rate, PERF_BYTE_RATE, bytes * 1e9 / (double)elapsed_ns);
	fprintf(stderr, "\r%5.1f of %.1f s  %10s ", (double)elapsed_ns / 1e9,
		(double)planned_ns / 1e9, rate);
}

void perf_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
