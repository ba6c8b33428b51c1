/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "settings.h"

namespace kvtrans
{

namespace
{

/* Cutting long spans into many blocks costs more than it saves. */
constexpr size_t blocks_a_span_max = 8;

} /* namespace */

Region::~Region()
{
	kvt_offer_close(offer);
	kvt_pool_close(pool);
}

Remote::~Remote()
{
	kvt_remote_close(handle);
}

std::unique_ptr<Request> Request::create(nixl::Operation operation, const nixl::Spans &local,
					 const nixl::Spans &remote)
{
	const auto &ours = local.spans();
	const auto &theirs = remote.spans();
	if (local.memory() != nixl::HOST || remote.memory() != nixl::HOST || ours.empty() ||
	    ours.size() != theirs.size())
		return nullptr;
	std::unique_ptr<Request> request(new Request);
	request->direction_ = operation == nixl::WRITE ? KVT_WRITE : KVT_READ;
	request->peer_ = static_cast<RemoteMemory *>(theirs[0].registered)->peer;
	if (!request->sort_into_parts(local, remote))
		return nullptr;
	request->add_spans(local, remote);
	request->turn_into_blocks();
	return request;
}

/* Which part each descriptor belongs to: one for each pair of local and remote memory. */
bool Request::sort_into_parts(const nixl::Spans &local, const nixl::Spans &remote)
{
	using Pair = std::pair<const nixl::Registered *, const nixl::Registered *>;
	const auto &ours = local.spans();
	const auto &theirs = remote.spans();
	std::map<Pair, uint32_t> known;
	Pair last;
	uint32_t part = 0;
	for (size_t i = 0; i < ours.size(); i++) {
		if (ours[i].len != theirs[i].len)
			return false;
		Pair pair(ours[i].registered, theirs[i].registered);
		if (i == 0 || pair != last) {
			auto [at, is_new] =
				known.try_emplace(pair, static_cast<uint32_t>(parts_.size()));
			if (is_new) {
				const auto *memory =
					static_cast<RemoteMemory *>(theirs[i].registered);
				if (memory->peer != peer_)
					return false;
				parts_.push_back(
					{ static_cast<LocalMemory *>(ours[i].registered)->region,
					  memory->remote });
				if (parts_.size() == 2)
					part_of_.assign(i, 0);
			}
			part = at->second;
			last = pair;
		}
		parts_[part].count++;
		if (parts_.size() > 1)
			part_of_.push_back(part);
	}
	return parts_.size() <= KVT_PARTS_MAX;
}

void Request::add_spans(const nixl::Spans &local, const nixl::Spans &remote)
{
	const auto &ours = local.spans();
	const auto &theirs = remote.spans();
	std::vector<size_t> next(parts_.size());
	size_t first = 0;
	for (size_t i = 0; i < parts_.size(); i++) {
		parts_[i].first = next[i] = first;
		first += parts_[i].count;
	}
	local_off_.resize(first);
	remote_off_.resize(first);
	lens_.resize(first);
	for (size_t i = 0; i < ours.size(); i++) {
		size_t part = part_of_.empty() ? 0 : part_of_[i];
		size_t at = next[part]++;
		local_off_[at] = ours[i].address - parts_[part].local->span.address;
		remote_off_[at] = theirs[i].address - parts_[part].remote->span.address;
		lens_[at] = ours[i].len;
	}
	part_of_ = {};
	for (const Part &part : parts_)
		table_.push_back({ part.local->pool, nullptr, &local_off_[part.first],
				   &remote_off_[part.first], &lens_[part.first], part.count });
}

/*
 * Pages of one pool become indices, as which they are checked and cut in less time: the library asks a map of the
 * blocks whether one is a destination twice, and need not sort. NIXL may have merged neighbours, so a block is what divides all.
 */
void Request::turn_into_blocks()
{
	if (parts_.size() != 1)
		return;
	uint64_t unit = 0;
	uint64_t total = 0;
	for (size_t i = 0; i < lens_.size(); i++) {
		unit = std::gcd(std::gcd(unit, lens_[i]), std::gcd(local_off_[i], remote_off_[i]));
		total += lens_[i];
	}
	uint64_t end = std::max(parts_[0].local->span.len, parts_[0].remote->span.len);
	if (unit == 0 || total / unit > lens_.size() * blocks_a_span_max || end / unit > INT32_MAX)
		return;
	local_idx_.reserve(total / unit);
	remote_idx_.reserve(total / unit);
	for (size_t i = 0; i < lens_.size(); i++) {
		for (uint64_t at = 0; at < lens_[i]; at += unit) {
			local_idx_.push_back(static_cast<int32_t>((local_off_[i] + at) / unit));
			remote_idx_.push_back(static_cast<int32_t>((remote_off_[i] + at) / unit));
		}
	}
	block_len_ = unit;
	lens_ = {};
	local_off_ = {};
	remote_off_ = {};
}

Request::~Request()
{
	if (transfer_ != nullptr && !kvt_transfer_is_done(transfer_))
		kvt_transfer_cancel(transfer_);
	kvt_transfer_detach(transfer_);
}

void Request::set_notification(std::string text)
{
	notification_ = std::move(text);
	has_notification_ = true;
}

void Request::wait()
{
	kvt_transfer_free(std::exchange(transfer_, nullptr)); /* of the time before: it has ended */
	state_.store(State::WAITING, std::memory_order_release);
}

void Request::fail(enum kvt_err err)
{
	err_ = err;
	state_.store(State::FAILED, std::memory_order_release);
}

/* Memory of ours that was deregistered since. */
bool Request::has_lost_memory() const
{
	return std::any_of(parts_.begin(), parts_.end(),
			   [](const Part &part) { return part.local->gone.load(); });
}

/* Its remotes are settled. */
enum kvt_err Request::start(uint64_t session)
{
	kvt_transfer_free(std::exchange(transfer_, nullptr));
	if (has_lost_memory()) {
		complain("memory of this side's that a transfer names was deregistered");
		return KVT_E_WITHDRAWN;
	}
	if (session_ != session) {
		for (size_t i = 0; i < parts_.size(); i++) {
			if (parts_[i].remote->handle == nullptr)
				return parts_[i].remote->failure;
			table_[i].remote = parts_[i].remote->handle;
		}
		session_ = session;
	}
	kvt_error error;
	enum kvt_err err = block_len_ != 0 ? start_blocks(&error) : start_parts(&error);
	if (err != KVT_OK) {
		complain(error.text);
		return err;
	}
	state_.store(State::STARTED, std::memory_order_release);
	return KVT_OK;
}

enum kvt_err Request::start_blocks(kvt_error *error)
{
	kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.direction = direction_;
	request.pool = table_[0].pool;
	request.remote = table_[0].remote;
	request.local_idx = local_idx_.data();
	request.remote_idx = remote_idx_.data();
	request.index_len = sizeof(local_idx_[0]);
	request.count = local_idx_.size();
	request.block_len = block_len_;
	request.notify = has_notification_ ? notification_.data() : nullptr;
	request.notify_len = has_notification_ ? notification_.size() : 0;
	request.timeout_ns = KVT_FOREVER; /* as in start_parts() */
	return kvt_blocks_start(&request, &transfer_, error);
}

enum kvt_err Request::start_parts(kvt_error *error)
{
	kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	request.direction = direction_;
	request.parts = table_.data();
	request.part_count = table_.size();
	request.notify = has_notification_ ? notification_.data() : nullptr;
	request.notify_len = has_notification_ ? notification_.size() : 0;
	request.timeout_ns =
		KVT_FOREVER; /* its application has limits of its own, and a lost peer ends it */
	return kvt_parts_start(&request, &transfer_, error);
}

/* KVT_E_AGAIN: it has not ended. */
enum kvt_err Request::check() const
{
	kvt_result result = KVT_RESULT_INIT;
	switch (state_.load(std::memory_order_acquire)) {
	case State::WAITING:
		return KVT_E_AGAIN;
	case State::FAILED:
		return err_;
	case State::STARTED:
		break;
	default:
		return KVT_E_INVALID;
	}
	if (kvt_transfer_get_result(transfer_, &result) != KVT_OK)
		return KVT_E_AGAIN;
	if (result.err == KVT_OK)
		return KVT_OK;
	complain(result.text);
	/* What ended it is no failing of the peer's. */
	return result.err == KVT_E_CLOSED && has_lost_memory() ? KVT_E_CANCELLED : result.err;
}

} /* namespace kvtrans */
