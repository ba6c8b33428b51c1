/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <map>
#include <utility>

#include "settings.h"

namespace kvtrans
{

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

Request::~Request()
{
	if (transfer_ != nullptr && !kvt_transfer_is_done(transfer_))
		kvt_transfer_cancel(transfer_);
	kvt_transfer_detach(transfer_);
}

void Request::set_notification(std::string packed)
{
	notification_ = std::move(packed);
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

/* Its remotes are settled. */
enum kvt_err Request::start(uint64_t session)
{
	kvt_transfer_free(std::exchange(transfer_, nullptr));
	if (session_ != session) {
		for (size_t i = 0; i < parts_.size(); i++) {
			if (parts_[i].remote->handle == nullptr)
				return parts_[i].remote->failure;
			table_[i].remote = parts_[i].remote->handle;
		}
		session_ = session;
	}
	kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	request.direction = direction_;
	request.parts = table_.data();
	request.part_count = table_.size();
	request.notify = has_notification_ ? notification_.data() : nullptr;
	request.notify_len = has_notification_ ? notification_.size() : 0;
	request.timeout_ns =
		KVT_FOREVER; /* its application has limits of its own, and a lost peer ends it */
	kvt_error error;
	enum kvt_err err = kvt_parts_start(&request, &transfer_, &error);
	if (err != KVT_OK) {
		complain(error.text);
		return err;
	}
	state_.store(State::STARTED, std::memory_order_release);
	return KVT_OK;
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
	if (result.err != KVT_OK)
		complain(result.text);
	return result.err;
}

} /* namespace kvtrans */
