/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "settings.h"

namespace kvtrans
{

namespace
{

/* Bytes of notifications that wait for the application; those of peers wait where they are beyond that. */
constexpr size_t arrived_len_max = size_t{ 64 } << 20;

/* The agent at the other end. False: who called is none. */
bool read_identity(const kvt_conn *conn, std::string &agent)
{
	size_t len = 0;
	const auto *bytes = static_cast<const char *>(kvt_conn_get_peer_identity(conn, &len));
	std::string_view identity(bytes == nullptr ? "" : bytes, len);
	if (!identity.starts_with(identity_prefix))
		return false;
	agent = identity.substr(std::strlen(identity_prefix));
	return true;
}

} /* namespace */

Service::Service(kvt_engine *engine)
    : engine_(engine), wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), pid_(getpid())
{
	if (wake_fd_ < 0) {
		kvt_engine_close(engine_);
		throw std::runtime_error(std::string("eventfd: ") + std::strerror(errno));
	}
	try {
		server_ = std::thread(&Service::serve, this);
	} catch (...) {
		kvt_engine_close(engine_);
		close(wake_fd_);
		throw;
	}
}

Service::~Service()
{
	{
		std::lock_guard guard(lock_);
		stopping_ = true;
	}
	kvt_engine_stop(engine_);
	wake();
	server_.join();
	{
		std::unique_lock guard(lock_);
		idle_.wait(guard, [this] { return jobs_ == 0; });
		closing_.insert(closing_.end(), accepted_.begin(), accepted_.end());
	}
	close_conns();
	free_sent();
	for (kvt_transfer *transfer : sent_)
		kvt_transfer_free(transfer);
	kvt_engine_close(engine_);
	close(wake_fd_);
}

bool Service::is_forked() const
{
	return getpid() != pid_;
}

void Service::wake()
{
	uint64_t one = 1;
	while (write(wake_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

void Service::run(std::function<void()> job)
{
	{
		std::lock_guard guard(lock_);
		jobs_++;
	}
	auto end_job = [this] {
		std::lock_guard guard(lock_);
		jobs_--;
		idle_.notify_all();
	};
	try {
		std::thread([job = std::move(job), end_job] {
			job();
			end_job();
		}).detach();
	} catch (...) {
		end_job();
		throw;
	}
}

void Service::close_later(kvt_conn *conn)
{
	{
		std::lock_guard guard(lock_);
		closing_.push_back(conn);
	}
	wake();
}

void Service::serve()
{
	for (;;) {
		/* Those that are not taken stay with the engine until take_notifications() has made room, and wakes us. */
		kvt_engine_watch_events(engine_, get_wanted());
		pollfd fds[] = { { wake_fd_, POLLIN, 0 },
				 { kvt_engine_get_fd(engine_), POLLIN, 0 } };
		poll(fds, 2, -1);
		uint64_t count = 0;
		if (read(wake_fd_, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
			complain(std::string("eventfd: ") + std::strerror(errno));
		{
			std::lock_guard guard(lock_);
			if (stopping_)
				return;
		}
		free_sent();
		{
			std::lock_guard guard(events_lock_);
			take_events();
		}
		close_conns();
	}
}

/* The kinds of events that there is room for. */
unsigned Service::get_wanted()
{
	std::lock_guard guard(lock_);
	return arrived_len_ >= arrived_len_max ? KVT_EVENTS_ALL & ~KVT_EVENTS_NOTIFICATION
					       : KVT_EVENTS_ALL;
}

void Service::take_events()
{
	while (take_event(get_wanted())) {
	}
}

/* One event of these kinds. False: there is none. */
bool Service::take_event(unsigned kinds)
{
	kvt_event *event = nullptr;
	if (kvt_engine_get_event_of(engine_, kinds, &event) != KVT_OK)
		return false;
	if (event->kind == KVT_EVENT_CONN_ACCEPTED) {
		std::lock_guard guard(lock_);
		accepted_.insert(event->conn);
	} else if (event->kind == KVT_EVENT_CONN_ENDED) {
		end(event->conn);
	} else if (event->err ==
		   KVT_OK) { /* what failed is told to who posted it, as NIXL has it */
		std::string agent;
		std::string text(static_cast<const char *>(event->data), event->len);
		if (read_identity(event->conn, agent)) {
			std::lock_guard guard(lock_);
			arrived_len_ += agent.size() + text.size() + sizeof(arrived_[0]);
			arrived_.emplace_back(std::move(agent), std::move(text));
		}
	}
	kvt_event_free(event);
	return true;
}

/* That one which this side opened has ended is for its owner to see. */
void Service::end(kvt_conn *conn)
{
	std::lock_guard guard(lock_);
	if (accepted_.erase(conn) > 0)
		closing_.push_back(conn);
}

void Service::close_conns()
{
	std::vector<kvt_conn *> conns;
	{
		std::lock_guard guard(lock_);
		conns.swap(closing_);
	}
	for (kvt_conn *conn : conns)
		kvt_conn_close(conn);
}

void Service::take_notifications(nixl::Notifications &notifications)
{
	if (std::unique_lock events(events_lock_, std::try_to_lock); events.owns_lock())
		take_events();
	std::lock_guard guard(lock_);
	if (arrived_len_ >= arrived_len_max)
		wake();
	arrived_len_ = 0;
	if (notifications.empty()) {
		notifications.swap(arrived_);
		return;
	}
	for (auto &notification : arrived_)
		notifications.push_back(std::move(notification));
	arrived_.clear();
}

enum kvt_err Service::send(kvt_conn *conn, const std::string &text)
{
	kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = conn;
	request.notify = text.data();
	request.notify_len = text.size();
	request.reap = true;
	request.timeout_ns =
		KVT_FOREVER; /* until the peer's application takes it; a lost peer ends it */
	free_sent();
	kvt_transfer *transfer = nullptr;
	kvt_error error;
	std::lock_guard guard(lock_); /* so that it is in sent_ before it can be reaped */
	enum kvt_err err = kvt_notify_start(&request, &transfer, &error);
	if (err == KVT_OK)
		sent_.insert(transfer);
	else
		complain(error.text);
	return err;
}

void Service::free_sent()
{
	std::array<kvt_transfer *, 64> over;
	size_t failed = 0;
	std::string why;
	while (size_t count = kvt_engine_reap(engine_, over.data(), over.size())) {
		std::lock_guard guard(lock_);
		for (size_t i = 0; i < count; i++) {
			kvt_result result = KVT_RESULT_INIT;
			kvt_transfer_get_result(over[i], &result);
			if (result.err != KVT_OK) {
				failed++;
				why = result.text;
			}
			sent_.erase(over[i]);
			kvt_transfer_free(over[i]);
		}
	}
	if (failed > 0)
		complain_undelivered(failed, why);
}

bool Service::is_sending()
{
	free_sent();
	std::lock_guard guard(lock_);
	return !sent_.empty();
}

} /* namespace kvtrans */
