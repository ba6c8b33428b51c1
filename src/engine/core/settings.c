/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.c - checks a configuration. Touches no fabric and opens nothing.
 */
#include "engine/core/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "wire/wire.h"

static enum kvt_err check_counts(const struct kvt_engine_config *config,
				 struct kvi_settings *settings, struct kvt_error *error)
{
	if (config->interfaces == NULL || config->interface_count == 0 ||
	    config->interface_count > KVI_RAILS_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"an engine takes 1 to %d interfaces, not %zu", KVI_RAILS_MAX,
				config->interfaces == NULL ? 0 : config->interface_count);
	for (size_t i = 0; i < config->interface_count; i++)
		if (config->interfaces[i] == NULL || config->interfaces[i][0] == '\0')
			return kvi_fail(error, KVT_E_INVALID, 0, "interface %zu has no name", i);

	if (config->ncpus > KVI_CPUS_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0, "ncpus is %u; allowed are 1 to %d",
				config->ncpus, KVI_CPUS_MAX);
	unsigned cpu_count = kvi_thread_get_cpu_count();
	unsigned half = cpu_count / 2;
	settings->ncpus = config->ncpus != 0 ? config->ncpus : half < 1 ? 1 : half > 4 ? 4 : half;
	settings->nconn_per_cpu = config->nconn_per_cpu != 0 ? config->nconn_per_cpu : 1;
	if (settings->nconn_per_cpu > KVI_LANES_MAX / settings->ncpus)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"%u ncpus x %u nconn_per_cpu: a connection has at most %d lanes",
				settings->ncpus, settings->nconn_per_cpu, KVI_LANES_MAX);

	for (size_t i = 0; i < config->cpu_count; i++)
		if (config->cpus == NULL || config->cpus[i] >= 4096)
			return kvi_fail(error, KVT_E_INVALID, 0, "cpus[%zu] is not a CPU number",
					i);

	if (!kvi_timeout_read(config->spin_ns, KVI_SPIN_MOST_NS, &settings->spin_ns))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"spin_ns is %lld; allowed are 0 and more, and KVT_NO_SPIN",
				(long long)config->spin_ns);
	settings->spin_adapts = config->spin_ns == 0;
	return KVT_OK;
}

/* A port of one to five digits; NULL: there is none. Returns what stands behind it. */
static const char *read_port(const char *text, uint16_t *port)
{
	size_t len = strspn(text, "0123456789");
	unsigned long number = len >= 1 && len <= 5 ? strtoul(text, NULL, 10) : 0;
	*port = (uint16_t)number;
	return number >= 1 && number <= UINT16_MAX ? text + len : NULL;
}

/* "40000-40100", or "40000" alone. */
static enum kvt_err read_lane_ports(const char *text, struct kvi_ports *ports,
				    struct kvt_error *error)
{
	const char *rest = read_port(text, &ports->low);
	ports->high = ports->low;
	if (rest != NULL && *rest == '-')
		rest = read_port(rest + 1, &ports->high);
	if (rest != NULL && *rest == '\0' && ports->low <= ports->high)
		return KVT_OK;
	return kvi_fail(error, KVT_E_INVALID, 0,
			"lane_ports is \"%.40s\"; allowed is a range of ports from 1 to 65535, as "
			"\"40000-40100\"",
			text);
}

enum kvt_err kvi_settings_init(struct kvi_settings *settings,
			       const struct kvt_engine_config *config, struct kvt_error *error)
{
	const char *local = getenv("KVTRANS_LOCAL");
	struct kvi_settings found = {
		.takes_local = local == NULL || strcmp(local, "0") != 0,
		.listen_port = config->listen_port,
		.accept_events = config->accept_events,
		.checksum = config->checksum,
		.interrupted = config->interrupted,
		.interrupted_arg = config->interrupted_arg,
	};
	enum kvt_err err = check_counts(config, &found, error);
	if (err != KVT_OK)
		return err;

	if (config->lane_ports != NULL) {
		err = read_lane_ports(config->lane_ports, &found.lane_ports, error);
		if (err != KVT_OK)
			return err;
	}

	found.eager_len = config->eager_len == 0	      ? KVI_EAGER_LEN
			  : config->eager_len == KVT_NO_EAGER ? 0
							      : config->eager_len;
	if (found.eager_len > KVI_EAGER_LEN_MAX)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"eager_len is %zu; allowed are 1 to %d bytes", found.eager_len,
				KVI_EAGER_LEN_MAX);

	found.heartbeat_ns = config->heartbeat_ns != 0 ? config->heartbeat_ns : KVI_SECOND;
	if (found.heartbeat_ns < KVI_MS || found.heartbeat_ns > 3600 * KVI_SECOND)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"heartbeat_ns is %lld; allowed are 1 ms to 1 hour",
				(long long)found.heartbeat_ns);
	found.lost_after_ns = config->lost_after_ns != 0 ? config->lost_after_ns
							 : 3 * found.heartbeat_ns;
	if (found.lost_after_ns < 2 * found.heartbeat_ns)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"lost_after_ns is %lld; it is at least twice the heartbeat, %lld",
				(long long)found.lost_after_ns, 2 * (long long)found.heartbeat_ns);
	/* Soon enough, and a time that can be added to now. */
	if (found.lost_after_ns > KVI_NEVER / 2)
		found.lost_after_ns = KVI_NEVER / 2;
	if (config->identity_len > KVT_IDENTITY_LEN_MAX ||
	    (config->identity == NULL && config->identity_len > 0))
		return kvi_fail(error, KVT_E_INVALID, 0,
				"an identity of %zu bytes%s; allowed are up to %d",
				config->identity_len,
				config->identity == NULL ? " that is NULL" : "",
				KVT_IDENTITY_LEN_MAX);
	if (config->identity_len > 0)
		memcpy(found.identity, config->identity, config->identity_len);
	found.identity_len = config->identity_len;
	*settings = found;
	return KVT_OK;
}
