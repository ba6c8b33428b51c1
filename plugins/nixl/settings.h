/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - what the engine under a backend is opened with: NIXL's parameters, else KVTRANS_* variables. */
#ifndef KVTRANS_PLUGINS_NIXL_SETTINGS_H
#define KVTRANS_PLUGINS_NIXL_SETTINGS_H

#include <cstddef>
#include <stdexcept>
#include <string>

#include <kvtrans.h>

#include "interface.h"

namespace kvtrans
{

/* What NIXL shall tell of the parameters: each with "", its default. */
nixl::Settings list_settings();

/* The engine that they ask for. Throws std::runtime_error, which says what does not fit. */
kvt_engine *open_engine(const nixl::Settings &settings, const std::string &agent);

/* What stands before the agent's name in the identity that peers are told: another number, other notifications. */
constexpr const char *identity_prefix = "nixl-1 ";

/* A line on stderr, "kvtrans: nixl: ...". */
void complain(const std::string &text);
void complain_undelivered(size_t count, const std::string &why);

} /* namespace kvtrans */

#endif
