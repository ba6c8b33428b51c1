/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - an engine's settings: the user's configuration checked, with every default filled in.
 */
#ifndef KVI_ENGINE_SETTINGS_H
#define KVI_ENGINE_SETTINGS_H

#include <kvtrans.h>

#include "fabric/fabric.h"

enum {
	KVI_CPUS_MAX = 256,
	KVI_CONNECTIONS_MAX = 4096,
	/* What peers can make an engine keep whose application does not accept them: so many connections,
	 * open or ended, and about so many bytes in all of them; then they wait. */
	KVI_UNACCEPTED_MAX = 1024,
	KVI_UNACCEPTED_LEN_MAX = 256 * 1024 * 1024,
	KVI_KVS_MAX = 65536,	   /* tags per connection */
	KVI_TRANSFERS_MAX = 65536, /* in flight per connection */
	KVI_RX_COUNT = 32,	   /* receives kept posted on each lane */
	/* Of the packets that a lane sends one in so many is signalled, and brings back those before it. On an idle lane
	 * as many stay out, a page of memory each. */
	KVI_SIGNALLED_EACH = 4,
	/* What is sent on a lane and not yet consumed: twice the longest EAGER, with its meta and charge. So a
	 * notification as long as that finds room beside what the application leaves a while. */
	KVI_LANE_WINDOW = 2 * (1024 * 1024 + 8 * 1024),
	/* ATTACH and FIND that wait for their answers, of a lane. */
	KVI_QUESTIONS_MAX = 16,
	/* Of a descriptor that is asked for: many may be asked for at a time. */
	KVI_PART_LEN = 16 * 1024,
	KVI_EAGER_LEN = 64 * 1024,
	KVI_EAGER_LEN_MAX = 1024 * 1024,
	/* Smaller pays per operation; larger is no faster, and messages wait behind it. */
	KVI_SEGMENT_LEN = 2 * 1024 * 1024,
	/* In flight per lane: no more bytes, so that messages do not wait long, and as many operations
	 * as fill that with blocks of 16 KiB, four in each. */
	KVI_WRITES_LEN_MAX = 4 * 1024 * 1024,
	KVI_FLIGHT_START =
		256 * 1024,	    /* of all lanes of a connection, which has shown nothing yet */
	KVI_FLIGHT_MIN = 16 * 1024, /* of a lane, however slow */
	KVI_WRITES_MAX = 64,
	KVI_READ_REQUESTS_MAX = 8, /* what the peer was asked for fills our staging buffers */
	KVI_SEGMENTS = KVI_WRITES_MAX + KVI_READ_REQUESTS_MAX,
	/* Blocks are packed into staging buffers: the peer fills some while others are unpacked. A
	 * pack costs some 30 us of CPU whatever is in it; larger ones make messages wait for the
	 * copies. */
	KVI_STAGING_BUFFER_LEN = 1024 * 1024,
	KVI_STAGING_BUFFERS = 4,
	KVI_PACKS = 2,		   /* buffers to fill them from */
	KVI_PACK_SPANS_MAX = 2048, /* however small the blocks are */
	/* From here on a transfer is spread over all lanes; below, one lane and no extra trip for FIN. */
	KVI_SPREAD_LEN = 2 * 1024 * 1024,
};

/* Sums that did not fit, of one connection: so many more would say that nothing comes right there. It bounds, too, what
 * a peer finds out of memory that it may not read by asking for sums that it guesses. */
enum { KVI_CORRUPTIONS_MAX = 16 };

#define KVI_CONNECT_NS (5 * KVI_SECOND)
#define KVI_HANDSHAKE_NS (2 * KVI_SECOND)
#define KVI_TRIAL_NS (2 * KVI_SECOND) /* of the local path, before lanes go over the network */
#define KVI_SEND_NS (60 * KVI_SECOND)
#define KVI_SPIN_MOST_NS (KVI_MS / 5)
#define KVI_TIMEOUT_RULE "0 and more, KVT_NOWAIT and KVT_FOREVER"
#define KVI_FLIGHT_NS (KVI_SECOND / 2)	/* what is in flight shall drain in that time */
#define KVI_QUIESCE_NS (1 * KVI_SECOND) /* without a byte that moves, when something is given up */
#define KVI_DRAIN_NS (20 * KVI_SECOND)	/* however much still moves */
#define KVI_CLOSE_NS (KVI_SECOND / 2)

struct kvi_settings {
	unsigned ncpus;
	unsigned nconn_per_cpu;
	uint16_t listen_port;
	struct kvi_ports lane_ports;
	size_t eager_len;
	int64_t heartbeat_ns;
	int64_t lost_after_ns;
	int64_t spin_ns; /* at most, where it adapts (patience.h); 0: never */
	bool spin_adapts;
	bool accept_events;
	bool takes_local; /* peers of this host may be reached without the network */
	bool checksum;	  /* wanted on every connection */
	int (*interrupted)(void *arg);
	void *interrupted_arg;
	uint8_t identity[KVT_IDENTITY_LEN_MAX];
	size_t identity_len;
};

/* Check config and fill in defaults. INVALID names the field, the value and what is allowed. */
enum kvt_err kvi_settings_init(struct kvi_settings *settings,
			       const struct kvt_engine_config *config, struct kvt_error *error);

#endif
