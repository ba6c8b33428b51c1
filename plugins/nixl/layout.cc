/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.cc - compares interface.h with NIXL's own headers, where configure was given them (--with-nixl=DIR): a build
 * for a version whose objects are laid out in another way fails here, with the name of what differs. The order of
 * virtual functions cannot be compared so: tests/nixl calls them through NIXL's wheels.
 */
#include "backend/backend_engine.h"
#include "backend/backend_plugin.h"

#include <cstddef>

#include "interface.h"

namespace
{

template <class Ours, class Theirs> constexpr bool is_alike()
{
	return sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs);
}

} /* namespace */

static_assert(nixl::API_VERSION == NIXL_PLUGIN_API_VERSION);

static_assert(is_alike<nixl::Backend, nixlBackendEngine>());
static_assert(is_alike<nixl::Plugin, nixlBackendPlugin>());
static_assert(is_alike<nixl::Start, nixlBackendInitParams>());
static_assert(is_alike<nixl::Options, nixl_opt_b_args_t>());
static_assert(is_alike<nixl::Handle, nixlBackendReqH>());
static_assert(is_alike<nixl::Registered, nixlBackendMD>());
static_assert(is_alike<nixl::Span, nixlBasicDesc>());
static_assert(is_alike<nixl::DescribedSpan, nixlBlobDesc>());
static_assert(is_alike<nixl::RegisteredSpan, nixlMetaDesc>());
static_assert(is_alike<nixl::RemoteSpan, nixlRemoteMetaDesc>());
static_assert(is_alike<nixl::Spans, nixl_meta_dlist_t>());
static_assert(is_alike<nixl::Notifications, notif_list_t>());

static_assert(offsetof(nixl::Span, len) == offsetof(nixlBasicDesc, len));
static_assert(offsetof(nixl::Span, device) == offsetof(nixlBasicDesc, devId));
static_assert(offsetof(nixl::Options, has_notification) == offsetof(nixl_opt_b_args_t, hasNotif));
static_assert(offsetof(nixl::Start, backend) == offsetof(nixlBackendInitParams, type));
static_assert(offsetof(nixl::Start, settings) == offsetof(nixlBackendInitParams, customParams));
static_assert(offsetof(nixl::Start, threads) == offsetof(nixlBackendInitParams, syncMode));
static_assert(offsetof(nixl::Start, telemetry) ==
	      offsetof(nixlBackendInitParams, enableTelemetry_));
static_assert(offsetof(nixl::Plugin, open) == offsetof(nixlBackendPlugin, create_engine));
static_assert(offsetof(nixl::Plugin, get_memories) ==
	      offsetof(nixlBackendPlugin, get_backend_mems));

static_assert(int{ nixl::HOST } == int{ DRAM_SEG } && int{ nixl::FILE_SYSTEM } == int{ FILE_SEG });
static_assert(int{ nixl::READ } == int{ NIXL_READ } && int{ nixl::WRITE } == int{ NIXL_WRITE });
static_assert(int{ nixl::IN_PROGRESS } == int{ NIXL_IN_PROG });
static_assert(int{ nixl::NOT_POSTED } == int{ NIXL_ERR_NOT_POSTED });
static_assert(int{ nixl::INVALID } == int{ NIXL_ERR_INVALID_PARAM });
static_assert(int{ nixl::BACKEND } == int{ NIXL_ERR_BACKEND });
static_assert(int{ nixl::NOT_FOUND } == int{ NIXL_ERR_NOT_FOUND });
static_assert(int{ nixl::MISMATCH } == int{ NIXL_ERR_MISMATCH });
static_assert(int{ nixl::NOT_ALLOWED } == int{ NIXL_ERR_NOT_ALLOWED });
static_assert(int{ nixl::REPOST_ACTIVE } == int{ NIXL_ERR_REPOST_ACTIVE });
static_assert(int{ nixl::UNKNOWN } == int{ NIXL_ERR_UNKNOWN });
static_assert(int{ nixl::UNSUPPORTED } == int{ NIXL_ERR_NOT_SUPPORTED });
static_assert(int{ nixl::DISCONNECTED } == int{ NIXL_ERR_REMOTE_DISCONNECT });
static_assert(int{ nixl::CANCELLED } == int{ NIXL_ERR_CANCELED });
