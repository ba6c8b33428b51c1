/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_text.c - the report for people, in lines of at most 80 columns, unless a single word is longer.
 */
#include "info.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 80, VALUE_COLUMN = 20, TEXT_LEN = 2048 };

/* Print text from the given column on, broken at blanks; the cursor is there already. */
static void print_wrapped(const char *text, int column)
{
	int at = column;
	const char *word = text;
	while (*word != '\0') {
		int len = (int)strcspn(word, " ");
		if (at > column && at + 1 + len > COLUMNS) {
			printf("\n%*s", column, "");
			at = column;
		}
		if (at > column) {
			putchar(' ');
			at++;
		}
		printf("%.*s", len, word);
		at += len;
		word += len;
		word += strspn(word, " ");
	}
	putchar('\n');
}

/* A label, and what is to be said of it. */
__attribute__((format(printf, 3, 4))) static void print_row(int indent, const char *label,
							    const char *format, ...)
{
	char text[TEXT_LEN];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("%*s%-*s ", indent, "", VALUE_COLUMN - indent - 1, label);
	if ((int)strlen(label) >= VALUE_COLUMN - indent)
		printf("\n%*s", VALUE_COLUMN, "");
	print_wrapped(text, VALUE_COLUMN);
}

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size,
							 const char *format, ...)
{
	size_t len = strlen(text);
	va_list args;
	va_start(args, format);
	vsnprintf(text + len, size - len, format, args);
	va_end(args);
}

/* CPUs as "0-15, 32-47". */
static void format_cpus(const struct info_choice *choice, char *text, size_t size)
{
	for (size_t i = 0; i < choice->near_cpu_count;) {
		size_t last = i;
		while (last + 1 < choice->near_cpu_count &&
		       choice->near_cpus[last + 1] == choice->near_cpus[last] + 1)
			last++;
		append(text, size, "%s%u", i > 0 ? ", " : "", choice->near_cpus[i]);
		if (last > i)
			append(text, size, "-%u", choice->near_cpus[last]);
		i = last + 1;
	}
}

static void format_bytes(int64_t bytes, char *text, size_t size)
{
	if (bytes == INFO_UNKNOWN)
		snprintf(text, size, "unknown");
	else if (bytes == INT64_MAX)
		snprintf(text, size, "unlimited");
	else if (bytes >= 1 << 20)
		snprintf(text, size, "%.1f MiB", (double)bytes / (1 << 20));
	else
		snprintf(text, size, "%.1f KiB", (double)bytes / (1 << 10));
}

static void print_choice(const struct info_choice *choice)
{
	if (choice->provider[0] == '\0') {
		print_row(4, "engine takes", "nothing: %s", choice->error.text);
		return;
	}
	print_row(4, "engine takes", "%s, NIC %s, address %s", choice->provider, choice->domain,
		  choice->host);
	for (size_t i = 0; i < choice->candidate_count; i++) {
		const struct info_candidate *candidate = &choice->candidates[i];
		print_row(6, candidate->provider, "%s: %s", candidate->is_taken ? "yes" : "no",
			  candidate->why);
	}
}

static void print_port(const struct info_port *port)
{
	print_row(4, "RDMA device", "%s, port %u, %s, %s, %s", port->device, port->number,
		  port->state, port->link_layer, port->rate);
}

static void print_interface(const struct info_interface *interface)
{
	char link[TEXT_LEN], addresses[TEXT_LEN] = "", cpus[TEXT_LEN] = "";
	snprintf(link, sizeof(link), "%s, MTU %d", interface->is_up ? "up" : "down",
		 interface->mtu);
	if (interface->speed_mbit > 0)
		append(link, sizeof(link), ", %d Mb/s", interface->speed_mbit);
	if (interface->numa_node != INFO_UNKNOWN)
		append(link, sizeof(link), ", NUMA node %d", interface->numa_node);
	print_row(2, interface->name, "%s", link);

	for (size_t i = 0; i < interface->address_count; i++)
		append(addresses, sizeof(addresses), "%s%s", i > 0 ? ", " : "",
		       interface->addresses[i]);
	print_row(4, interface->address_count == 1 ? "address" : "addresses", "%s", addresses);
	if (interface->port != NULL)
		print_port(interface->port);
	format_cpus(&interface->choice, cpus, sizeof(cpus));
	if (cpus[0] != '\0')
		print_row(4, "near CPUs", "%s", cpus);
	print_choice(&interface->choice);
}

static void print_interfaces(const struct info_report *report)
{
	char others[TEXT_LEN] = "";
	printf("\nInterfaces\n");
	for (size_t i = 0; i < report->interface_count; i++) {
		const struct info_interface *interface = &report->interfaces[i];
		if (interface->address_count > 0)
			print_interface(interface);
		else
			append(others, sizeof(others), "%s%s", others[0] != '\0' ? ", " : "",
			       interface->name);
	}
	if (others[0] != '\0')
		print_row(2, "without address", "%s", others);

	if (report->interface != NULL || report->port_count == 0)
		return;
	printf("\nRDMA devices\n");
	for (size_t i = 0; i < report->port_count; i++) {
		const struct info_port *port = &report->ports[i];
		print_row(2, port->device, "port %u, %s, %s, %s, interface %s", port->number,
			  port->state, port->link_layer, port->rate,
			  port->netdev[0] != '\0' ? port->netdev : "none");
	}
}

static void print_peer(const struct info_peer *peer)
{
	const struct info_choice *choice = &peer->choice;
	printf("\nPeer %s\n", peer->name);
	print_row(4, "address", "%s", peer->address);
	print_row(4, "route", "from %s on %s%s", choice->host, choice->netdev,
		  peer->is_aside ? ", not the interface that you named" : "");
	print_choice(choice);
	print_row(4, "",
		  "The peer was not asked. It has to come to %s, too: else connecting fails, "
		  "and says what each side has.",
		  choice->provider);
}

static void print_host(const struct info_host *host)
{
	printf("\nTo processes of this host\n");
	if (host->path[0] == '\0')
		print_row(2, "path", "none: %s", host->reason);
	else if (host->reason[0] != '\0')
		print_row(2, "path", "%s, not local: %s", host->path, host->reason);
	else
		print_row(2, "path",
			  "local, which needs no network: tried between two engines of this user, "
			  "that name no provider");
	if (host->path[0] == '\0' || host->reason[0] != '\0')
		return;
	print_row(2, "memory", "%s",
		  host->ptrace_scope == 0 ? "read by the peer (process_vm_readv), or mapped where "
					    "an engine allocated it"
					  : "mapped by the peer where an engine allocated it; "
					    "other "
					    "memory may be copied twice, as ptrace_scope forbids "
					    "to read it");
}

static void print_offers(const struct info_report *report)
{
	printf("\nProviders of libfabric, those that are used first\n");
	for (size_t i = 0; i < report->offer_count; i++) {
		const struct kvi_offer *offer = &report->offers[i];
		const char *use = offer->only_by_name ? "by name"
				  : offer->is_used    ? "used"
						      : "not used";
		print_row(2, offer->provider, "%s%s: %s", use,
			  offer->is_here ? "" : ", not on this host", offer->why);
	}
}

static void print_limits(const struct info_report *report)
{
	const struct info_limits *limits = &report->limits;
	const struct info_defaults *defaults = &report->defaults;
	unsigned lanes = defaults->ncpus * defaults->nconn_per_cpu;
	char first[INFO_WORD_LEN], second[INFO_WORD_LEN];

	printf("\nDefaults and limits\n");
	print_row(2, "engine", "ncpus %u of %u CPUs, nconn_per_cpu %u, spin up to %lld us",
		  defaults->ncpus, defaults->cpu_count, defaults->nconn_per_cpu,
		  (long long)defaults->spin_ns / 1000);
	format_bytes((int64_t)defaults->lane_bytes, first, sizeof(first));
	format_bytes((int64_t)defaults->eager_len, second, sizeof(second));
	print_row(2, "connection", "%u lane%s of %s, eager messages up to %s", lanes,
		  lanes == 1 ? "" : "s", first, second);
	format_bytes(limits->memlock_bytes, first, sizeof(first));
	print_row(2, "locked memory", "%s%s; only RDMA needs it", first,
		  limits->memlock_exempt && limits->memlock_bytes != INT64_MAX ? ", which does not "
										 "hold for this "
										 "user"
									       : "");
	if (limits->nofile == INT64_MAX)
		print_row(2, "open files", "unlimited; a connection takes %u over TCP", 1 + lanes);
	else
		print_row(2, "open files", "%lld; a connection takes %u over TCP",
			  (long long)limits->nofile, 1 + lanes);
	format_bytes(limits->tcp_wmem_max, first, sizeof(first));
	format_bytes(limits->tcp_rmem_max, second, sizeof(second));
	print_row(2, "TCP", "congestion control %s; buffers up to %s to send, %s to receive",
		  limits->congestion_control, first, second);
	print_row(2, "registrations", "FI_MR_CACHE_MAX_COUNT is %s",
		  limits->mr_cache_max_count != NULL ? limits->mr_cache_max_count
						     : "not set: KVTrans sets it to 0");
}

static void print_advice(const struct info_report *report)
{
	printf("\nWhat would hurt\n");
	if (report->advice_count == 0)
		printf("  nothing that was looked at\n");
	for (size_t i = 0; i < report->advice_count; i++) {
		printf("  - ");
		print_wrapped(report->advice[i].what, 4);
		printf("    ");
		char fix[TEXT_LEN];
		snprintf(fix, sizeof(fix), "To mend it: %s.", report->advice[i].fix);
		print_wrapped(fix, 4);
	}
}

void info_print_text(const struct info_report *report)
{
	printf("kvtrans-info %s, libfabric %u.%u\n", kvt_get_version(), report->libfabric_major,
	       report->libfabric_minor);
	if (report->peer.name != NULL)
		print_peer(&report->peer);
	print_interfaces(report);
	print_host(&report->host);
	print_offers(report);
	print_limits(report);
	print_advice(report);
}
