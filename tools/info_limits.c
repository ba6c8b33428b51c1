/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_limits.c - what this host and process allow, and advice where that would hurt. It changes
 * nothing.
 */
#include "info.h"

#include "base/thread.h"
#include "engine/core/settings.h"
#include "wire/wire.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CAP_IPC_LOCK_BIT = 14, NOFILE_LOW = 1024, TCP_BUFFER_LOW = 2 << 20 };

/* ---- facts ---- */

void info_note_start(struct info_limits *limits)
{
	struct sigaction action;
	limits->mr_cache_max_count = getenv("FI_MR_CACHE_MAX_COUNT");
	limits->handlers_taken = sigaction(SIGINT, NULL, &action) == 0 &&
				 action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

/* The last number of a file's first line: the only one, or the highest of "min default max". */
static int64_t read_last_number(const char *path)
{
	char line[128] = "";
	long long number = INFO_UNKNOWN;
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return INFO_UNKNOWN;
	if (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		const char *last = strrchr(line, '\t');
		number = strtoll(last != NULL ? last : line, NULL, 10);
	}
	fclose(file);
	return number;
}

static bool has_ipc_lock(void)
{
	char line[128];
	bool has = false;
	FILE *file = fopen("/proc/self/status", "re");
	if (file == NULL)
		return false;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, "CapEff:", 7) == 0)
			has = (strtoull(line + 7, NULL, 16) >> CAP_IPC_LOCK_BIT & 1) != 0;
	}
	fclose(file);
	return has;
}

static int64_t get_limit(int resource)
{
	struct rlimit limit;
	if (getrlimit(resource, &limit) != 0)
		return INFO_UNKNOWN;
	return limit.rlim_cur == RLIM_INFINITY ? INT64_MAX : (int64_t)limit.rlim_cur;
}

static void find_defaults(struct info_defaults *defaults)
{
	const char *any = "lo";
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvi_settings settings;
	config.interfaces = &any;
	config.interface_count = 1;
	if (kvi_settings_init(&settings, &config, NULL) != KVT_OK)
		abort(); /* the defaults are valid */
	defaults->cpu_count = kvi_thread_get_cpu_count();
	defaults->ncpus = settings.ncpus;
	defaults->nconn_per_cpu = settings.nconn_per_cpu;
	defaults->eager_len = settings.eager_len;
	defaults->spin_ns = settings.spin_ns;
	/* As many packets to receive as to send, see engine/lane/link.h. */
	defaults->lane_bytes = 2 * KVI_RX_COUNT * (KVI_MESSAGE_OVERHEAD + settings.eager_len);
}

void info_find_limits(struct info_report *report)
{
	struct info_limits *limits = &report->limits;
	struct info_defaults *defaults = &report->defaults;
	find_defaults(defaults);
	limits->memlock_bytes = get_limit(RLIMIT_MEMLOCK);
	limits->memlock_need =
		(int64_t)(defaults->ncpus * defaults->nconn_per_cpu * defaults->lane_bytes);
	limits->memlock_exempt = has_ipc_lock();
	limits->nofile = get_limit(RLIMIT_NOFILE);
	limits->tcp_wmem_max = read_last_number("/proc/sys/net/ipv4/tcp_wmem");
	limits->tcp_rmem_max = read_last_number("/proc/sys/net/ipv4/tcp_rmem");
	limits->wmem_max = read_last_number("/proc/sys/net/core/wmem_max");
	limits->rmem_max = read_last_number("/proc/sys/net/core/rmem_max");
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_congestion_control", "re");
	if (file != NULL) {
		if (fscanf(file, "%63s", limits->congestion_control) != 1)
			limits->congestion_control[0] = '\0';
		fclose(file);
	}
}

/* ---- advice ---- */

/* The sentence that says what is wrong; the caller sets the one that mends it. */
__attribute__((format(printf, 3, 4))) static void advise(struct info_report *report,
							 const char *fix, const char *format, ...)
{
	if (report->advice_count == INFO_ADVICE_MAX)
		return;
	struct info_advice *advice = &report->advice[report->advice_count++];
	va_list args;
	va_start(args, format);
	vsnprintf(advice->what, sizeof(advice->what), format, args);
	va_end(args);
	snprintf(advice->fix, sizeof(advice->fix), "%s", fix);
}

static void advise_port(struct info_report *report, const struct info_port *port)
{
	if (strcmp(port->state, "ACTIVE") != 0) {
		advise(report,
		       "look at the cable, the switch, and on InfiniBand the subnet manager",
		       "RDMA device %s, port %u is not active: %s", port->device, port->number,
		       port->state);
		return;
	}
	for (size_t i = 0; i < report->interface_count; i++) {
		const struct info_interface *interface = &report->interfaces[i];
		if (strcmp(interface->name, port->netdev) == 0 && interface->address_count > 0)
			return;
	}
	advise(report, "give its network interface one; on InfiniBand that is IPoIB (ib0)",
	       "RDMA device %s, port %u has no IP address, which KVTrans needs to find it",
	       port->device, port->number);
}

static void advise_interface(struct info_report *report, const struct info_interface *interface)
{
	const struct info_choice *choice = &interface->choice;
	if (choice->provider[0] != '\0' && interface->port != NULL &&
	    strcmp(choice->domain, interface->port->device) != 0 &&
	    strcmp(interface->port->state, "ACTIVE") == 0)
		advise(report,
		       "does ibv_devinfo list it? Packages rdma-core, ibverbs-providers; the "
		       "right to open /dev/infiniband; the module rdma_ucm",
		       "%s has the RDMA device %s, but libfabric cannot use it: an engine takes %s",
		       interface->name, interface->port->device, choice->provider);
	if (choice->memory.code == KVT_OK)
		return;
	advise(report, "set FI_MR_CACHE_MAX_COUNT=0 before the process starts",
	       "on %s no memory can be opened to peers: %s", interface->name, choice->memory.text);
}

static void advise_memlock(struct info_report *report)
{
	const struct info_limits *limits = &report->limits;
	if (report->port_count == 0 || limits->memlock_exempt || limits->memlock_bytes == INT64_MAX)
		return;
	advise(report,
	       "ulimit -l unlimited, with memlock in /etc/security/limits.conf, or "
	       "LimitMEMLOCK=infinity in the systemd unit",
	       "only %lld KiB may be locked. RDMA locks what it moves: %lld KiB for a connection "
	       "with the defaults, and each KV while it is in transfer",
	       (long long)limits->memlock_bytes / 1024, (long long)limits->memlock_need / 1024);
}

static void advise_limits(struct info_report *report)
{
	const struct info_limits *limits = &report->limits;
	unsigned lanes = report->defaults.ncpus * report->defaults.nconn_per_cpu;
	advise_memlock(report);
	if (limits->nofile < NOFILE_LOW)
		advise(report, "ulimit -n 65536, or nofile in /etc/security/limits.conf",
		       "only %lld files may be open; a connection takes %u over TCP",
		       (long long)limits->nofile, 1 + lanes);
	if (strcmp(limits->congestion_control, "bbr") == 0)
		advise(report,
		       "sysctl -w net.ipv4.tcp_congestion_control=cubic (or reno), or measure both",
		       "TCP uses bbr, which paces connections, also those over loopback");
	bool is_low = (limits->tcp_wmem_max >= 0 && limits->tcp_wmem_max < TCP_BUFFER_LOW) ||
		      (limits->tcp_rmem_max >= 0 && limits->tcp_rmem_max < TCP_BUFFER_LOW);
	if (is_low)
		advise(report, "raise the third number of net.ipv4.tcp_wmem and tcp_rmem",
		       "TCP buffers are small: a lane moves at most that much in a round trip");
	for (size_t i = 0; i < report->setting_count; i++)
		advise(report, "unset it, if the site does not need it", "%s: %s",
		       report->settings[i].text, report->settings[i].what);
	if (limits->handlers_taken)
		advise(report, "IPATH_NO_BACKTRACE=1 HFI_NO_BACKTRACE=1 before a program starts",
		       "a library that libfabric loads took over SIGINT and other signals; the "
		       "Python package prevents that, a C program has to");
}

void info_advise(struct info_report *report)
{
	for (size_t i = 0; i < report->port_count; i++) {
		const struct info_port *port = &report->ports[i];
		if (report->interface == NULL || port == report->interfaces[0].port)
			advise_port(report, port);
	}
	for (size_t i = 0; i < report->interface_count; i++)
		advise_interface(report, &report->interfaces[i]);
	advise_limits(report);
}
