/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_json.c - the report as one JSON object. What is unknown is null; a key is never left out.
 */
#include "info.h"

#include <stdio.h>
#include <string.h>

/* ---- the writer: one object or array open at a time per depth, a comma before all but the first ---- */

enum { DEPTH_MAX = 8 };

struct writer {
	unsigned depth;
	bool has_items[DEPTH_MAX];
};

static void put_string(const char *text)
{
	putchar('"');
	for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
		if (*at == '"' || *at == '\\')
			printf("\\%c", *at);
		else if (*at < 0x20)
			printf("\\u%04x", *at);
		else
			putchar(*at);
	}
	putchar('"');
}

/* What stands before a value; key NULL: in an array. */
static void put_name(struct writer *writer, const char *key)
{
	if (writer->has_items[writer->depth])
		printf(", ");
	writer->has_items[writer->depth] = true;
	if (key != NULL) {
		put_string(key);
		printf(": ");
	}
}

static void begin(struct writer *writer, const char *key, char bracket)
{
	put_name(writer, key);
	putchar(bracket);
	writer->has_items[++writer->depth] = false;
}

static void end(struct writer *writer, char bracket)
{
	putchar(bracket);
	writer->depth--;
}

/* NULL and "" are null: a name that there is not. */
static void add_text(struct writer *writer, const char *key, const char *text)
{
	put_name(writer, key);
	if (text == NULL || text[0] == '\0')
		printf("null");
	else
		put_string(text);
}

static void add_bool(struct writer *writer, const char *key, bool value)
{
	put_name(writer, key);
	printf("%s", value ? "true" : "false");
}

static void add_count(struct writer *writer, const char *key, uint64_t value)
{
	put_name(writer, key);
	printf("%llu", (unsigned long long)value);
}

/* No limit and unknown are null. */
static void add_limit(struct writer *writer, const char *key, int64_t value)
{
	put_name(writer, key);
	if (value == INFO_UNKNOWN || value == INT64_MAX)
		printf("null");
	else
		printf("%lld", (long long)value);
}

/* ---- the report ---- */

static void add_choice(struct writer *writer, const struct info_choice *choice)
{
	add_text(writer, "provider", choice->provider);
	add_text(writer, "domain", choice->domain);
	add_text(writer, "local_address", choice->host);
	add_text(writer, "error", choice->error.code != KVT_OK ? choice->error.text : NULL);
	bool is_bounded = choice->segment_len_max > 0 && choice->segment_len_max < INT64_MAX;
	add_limit(writer, "max_segment_bytes",
		  is_bounded ? (int64_t)choice->segment_len_max : INFO_UNKNOWN);
	add_bool(writer, "pins_memory", choice->pins);
	begin(writer, "near_cpus", '[');
	for (size_t i = 0; i < choice->near_cpu_count; i++)
		add_count(writer, NULL, choice->near_cpus[i]);
	end(writer, ']');
	begin(writer, "candidates", '[');
	for (size_t i = 0; i < choice->candidate_count; i++) {
		const struct info_candidate *candidate = &choice->candidates[i];
		begin(writer, NULL, '{');
		add_text(writer, "provider", candidate->provider);
		add_bool(writer, "serves", candidate->serves);
		add_bool(writer, "taken", candidate->is_taken);
		add_text(writer, "why", candidate->why);
		end(writer, '}');
	}
	end(writer, ']');
}

static void add_port(struct writer *writer, const struct info_port *port)
{
	add_text(writer, "rdma_device", port != NULL ? port->device : NULL);
	add_limit(writer, "port", port != NULL ? (int64_t)port->number : INFO_UNKNOWN);
	add_text(writer, "port_state", port != NULL ? port->state : NULL);
	add_text(writer, "link_layer", port != NULL ? port->link_layer : NULL);
	add_text(writer, "rate", port != NULL ? port->rate : NULL);
}

static void add_interfaces(struct writer *writer, const struct info_report *report)
{
	begin(writer, "interfaces", '[');
	for (size_t i = 0; i < report->interface_count; i++) {
		const struct info_interface *interface = &report->interfaces[i];
		begin(writer, NULL, '{');
		add_text(writer, "name", interface->name);
		begin(writer, "addresses", '[');
		for (size_t j = 0; j < interface->address_count; j++)
			add_text(writer, NULL, interface->addresses[j]);
		end(writer, ']');
		add_bool(writer, "up", interface->is_up);
		add_limit(writer, "mtu", interface->mtu);
		add_limit(writer, "speed_mbit", interface->speed_mbit);
		add_limit(writer, "numa_node", interface->numa_node);
		add_port(writer, interface->port);
		add_choice(writer, &interface->choice);
		end(writer, '}');
	}
	end(writer, ']');
}

static void add_rdma_ports(struct writer *writer, const struct info_report *report)
{
	begin(writer, "rdma_ports", '[');
	for (size_t i = 0; i < report->port_count; i++) {
		begin(writer, NULL, '{');
		add_port(writer, &report->ports[i]);
		add_text(writer, "interface", report->ports[i].netdev);
		add_limit(writer, "numa_node", report->ports[i].numa_node);
		end(writer, '}');
	}
	end(writer, ']');
}

static void add_offers(struct writer *writer, const struct info_report *report)
{
	begin(writer, "providers", '[');
	for (size_t i = 0; i < report->offer_count; i++) {
		const struct kvi_offer *offer = &report->offers[i];
		begin(writer, NULL, '{');
		add_text(writer, "name", offer->provider);
		add_bool(writer, "used", offer->is_used);
		add_bool(writer, "only_by_name", offer->only_by_name);
		add_bool(writer, "on_this_host", offer->is_here);
		begin(writer, "endpoints", '[');
		if (offer->msg)
			add_text(writer, NULL, "FI_EP_MSG");
		if (offer->rdm)
			add_text(writer, NULL, "FI_EP_RDM");
		if (offer->dgram)
			add_text(writer, NULL, "FI_EP_DGRAM");
		end(writer, ']');
		add_text(writer, "why", offer->why);
		end(writer, '}');
	}
	end(writer, ']');
}

static void add_host(struct writer *writer, const struct info_host *host)
{
	begin(writer, "this_host", '{');
	add_text(writer, "path", host->path[0] != '\0' ? host->path : NULL);
	add_text(writer, "reason", host->reason[0] != '\0' ? host->reason : NULL);
	add_limit(writer, "ptrace_scope", host->ptrace_scope);
	end(writer, '}');
}

static void add_peer(struct writer *writer, const struct info_peer *peer)
{
	if (peer->name == NULL) {
		add_text(writer, "peer", NULL);
		return;
	}
	begin(writer, "peer", '{');
	add_text(writer, "name", peer->name);
	add_text(writer, "address", peer->address);
	add_text(writer, "interface", peer->choice.netdev);
	add_choice(writer, &peer->choice);
	end(writer, '}');
}

static void add_limits(struct writer *writer, const struct info_report *report)
{
	const struct info_defaults *defaults = &report->defaults;
	const struct info_limits *limits = &report->limits;
	begin(writer, "defaults", '{');
	add_count(writer, "cpus", defaults->cpu_count);
	add_count(writer, "ncpus", defaults->ncpus);
	add_count(writer, "nconn_per_cpu", defaults->nconn_per_cpu);
	add_count(writer, "eager_bytes", defaults->eager_len);
	add_count(writer, "spin_ns", (uint64_t)defaults->spin_ns);
	add_count(writer, "lane_bytes", defaults->lane_bytes);
	end(writer, '}');
	begin(writer, "limits", '{');
	add_limit(writer, "memlock_bytes", limits->memlock_bytes);
	add_limit(writer, "memlock_needed_bytes", limits->memlock_need);
	add_bool(writer, "memlock_exempt", limits->memlock_exempt);
	add_limit(writer, "nofile", limits->nofile);
	add_text(writer, "congestion_control", limits->congestion_control);
	add_limit(writer, "tcp_wmem_max_bytes", limits->tcp_wmem_max);
	add_limit(writer, "tcp_rmem_max_bytes", limits->tcp_rmem_max);
	add_limit(writer, "wmem_max_bytes", limits->wmem_max);
	add_limit(writer, "rmem_max_bytes", limits->rmem_max);
	add_text(writer, "fi_mr_cache_max_count", limits->mr_cache_max_count);
	add_bool(writer, "signal_handlers_taken", limits->handlers_taken);
	end(writer, '}');
}

static void add_advice(struct writer *writer, const struct info_report *report)
{
	begin(writer, "advice", '[');
	for (size_t i = 0; i < report->advice_count; i++) {
		begin(writer, NULL, '{');
		add_text(writer, "what", report->advice[i].what);
		add_text(writer, "fix", report->advice[i].fix);
		end(writer, '}');
	}
	end(writer, ']');
}

void info_print_json(const struct info_report *report)
{
	struct writer writer = { .depth = 0 };
	char version[INFO_WORD_LEN];
	snprintf(version, sizeof(version), "%u.%u", report->libfabric_major,
		 report->libfabric_minor);
	begin(&writer, NULL, '{');
	add_text(&writer, "tool", "kvtrans-info");
	add_text(&writer, "version", kvt_get_version());
	add_text(&writer, "libfabric", version);
	add_peer(&writer, &report->peer);
	add_interfaces(&writer, report);
	add_rdma_ports(&writer, report);
	add_host(&writer, &report->host);
	add_offers(&writer, report);
	add_limits(&writer, report);
	add_advice(&writer, report);
	end(&writer, '}');
	putchar('\n');
}
