/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <algorithm>
#include <utility>

#include "settings.h"

namespace kvtrans
{

namespace
{

constexpr int64_t find_ns = 2000000000;
/* A peer that could not be reached is not called again sooner. */
constexpr std::chrono::seconds respite{ 1 };

} /* namespace */

bool Peer::is_open()
{
	return conn_ != nullptr && kvt_conn_get_status(conn_, nullptr) == KVT_OK;
}

bool Peer::is_ready(const Request &request) const
{
	return std::all_of(request.parts().begin(), request.parts().end(),
			   [this](const Part &part) { return part.remote->is_settled(session_); });
}

void Peer::want(const std::vector<Part> &parts)
{
	for (const Part &part : parts) {
		if (!is_open() || !part.remote->is_settled(session_))
			wanted_.push_back(part.remote);
	}
}

void Peer::approach(const std::vector<Part> &parts)
{
	std::lock_guard guard(lock_);
	want(parts);
	if (!is_open() || !wanted_.empty())
		go();
}

enum kvt_err Peer::start(Request &request)
{
	std::lock_guard guard(lock_);
	if (dropped_)
		return KVT_E_CLOSED;
	if (is_open() && is_ready(request))
		return request.start(session_);
	if (!is_open() && failure_ != KVT_OK &&
	    std::chrono::steady_clock::now() < failed_at_ + respite)
		return failure_;
	request.wait();
	waiting_.push_back(&request);
	want(request.parts());
	go();
	return KVT_OK;
}

enum kvt_err Peer::notify(const std::string &text)
{
	std::lock_guard guard(lock_);
	if (dropped_)
		return KVT_E_CLOSED;
	if (is_open())
		return send(text);
	if (failure_ != KVT_OK && std::chrono::steady_clock::now() < failed_at_ + respite)
		return failure_;
	unsent_.push_back(text);
	go();
	return KVT_OK;
}

enum kvt_err Peer::send(const std::string &text)
{
	kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = conn_;
	request.notify = text.data();
	request.notify_len = text.size();
	kvt_transfer *transfer = nullptr;
	kvt_error error;
	enum kvt_err err = kvt_notify_start(&request, &transfer, &error);
	if (err == KVT_OK)
		service_.watch(transfer);
	else
		complain(error.text);
	return err;
}

void Peer::forget(Request &request)
{
	std::lock_guard guard(lock_);
	std::erase(waiting_, &request);
}

void Peer::drop()
{
	std::lock_guard guard(lock_);
	dropped_ = true;
	if (conn_ != nullptr && !busy_) /* else the job, which may be using it, closes it */
		service_.close_later(std::exchange(conn_, nullptr));
	fail_all(KVT_E_CLOSED);
}

void Peer::fail_all(enum kvt_err err)
{
	for (Request *request : waiting_)
		request->fail(err);
	waiting_.clear();
	wanted_.clear();
	unsent_.clear();
}

/* Set a job to work, unless one is or nothing can come of it. */
void Peer::go()
{
	if (busy_ || dropped_)
		return;
	busy_ = true;
	service_.run([self = shared_from_this()] { self->work(); });
}

void Peer::work()
{
	std::unique_lock guard(lock_);
	while (!dropped_) {
		if (!is_open() && !open_conn(guard))
			break;
		find_remotes(guard);
		if (is_open() && wanted_.empty()) {
			send_unsent();
			start_waiting();
			if (wanted_.empty())
				break;
		}
	}
	if (dropped_ && conn_ != nullptr)
		service_.close_later(std::exchange(conn_, nullptr));
	busy_ = false;
}

/* False: it failed, and with it what waits. */
bool Peer::open_conn(std::unique_lock<std::mutex> &guard)
{
	kvt_conn *conn = nullptr;
	kvt_error error;
	if (conn_ != nullptr)
		service_.close_later(std::exchange(conn_, nullptr));
	guard.unlock();
	enum kvt_err err = kvt_conn_open_address(service_.engine(), address_.data(),
						 address_.size(), 0, &conn, &error);
	if (err == KVT_OK)
		service_.adopt(conn);
	guard.lock();
	failure_ = err;
	failed_at_ = std::chrono::steady_clock::now();
	if (err != KVT_OK) {
		if (!dropped_)
			complain(error.text);
		fail_all(err);
		return false;
	}
	if (dropped_) {
		service_.close_later(conn);
		return false;
	}
	conn_ = conn;
	session_++;
	return true;
}

/* Find what is wanted, until that is done or the connection has ended. */
void Peer::find_remotes(std::unique_lock<std::mutex> &guard)
{
	while (!wanted_.empty() && !dropped_) {
		std::shared_ptr<Remote> remote = wanted_.back();
		wanted_.pop_back();
		if (remote->is_settled(session_))
			continue;
		kvt_remote *handle = nullptr;
		kvt_error error;
		guard.unlock(); /* the connection stays: this job alone closes it */
		enum kvt_err err =
			kvt_remote_find(conn_, remote->name.c_str(), find_ns, &handle, &error);
		guard.lock();
		if (err != KVT_OK && kvt_err_get_scope(err) == KVT_SCOPE_CONNECTION) {
			wanted_.push_back(std::move(remote));
			return;
		}
		if (err != KVT_OK)
			complain("memory of the peer's: " + std::string(error.text));
		kvt_remote_close(std::exchange(remote->handle, handle));
		remote->failure = err == KVT_E_TIMEOUT ? KVT_E_WITHDRAWN : err;
		remote->session = session_;
	}
}

void Peer::start_waiting()
{
	std::vector<Request *> waiting;
	waiting.swap(waiting_);
	for (Request *request : waiting) {
		if (!is_ready(*request)) {
			waiting_.push_back(request);
			want(request->parts());
			continue;
		}
		enum kvt_err err = request->start(session_);
		if (err != KVT_OK)
			request->fail(err);
	}
}

void Peer::send_unsent()
{
	std::vector<std::string> unsent;
	unsent.swap(unsent_);
	for (const std::string &text : unsent)
		send(text);
}

} /* namespace kvtrans */
