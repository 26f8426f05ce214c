package quickscale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// How long the server waits for a client, and a process for what is under way when it is told to stop.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 90 * time.Second
	idleTimeout       = 2 * time.Minute
	// ShutdownTimeout is how long [App.Serve] lets requests and jobs finish.
	ShutdownTimeout = 30 * time.Second
)

// firstSocket is the descriptor of the first socket that systemd hands over (sd_listen_fds(3)).
const firstSocket = 3

// Listen takes the socket that systemd has opened for the process (LISTEN_FDS, sd_listen_fds(3)), and listens on addr
// where there is none. A socket of systemd's outlives the process: who comes while it is restarted waits, and is not
// refused. The error says what to do when the address is taken.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	given := os.Getenv("LISTEN_FDS")
	if given == "" || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("quickscale: listen on %s: %w; another address goes into QUICKSCALE_ADDR", addr, err)
		}
		return l, nil
	}
	if given != "1" {
		return nil, fmt.Errorf("quickscale: LISTEN_FDS is %q: the unit of the socket must have one ListenStream", given)
	}
	file := os.NewFile(firstSocket, "LISTEN_FDS")
	l, err := net.FileListener(file) // it has a descriptor of its own
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("quickscale: the socket of LISTEN_FDS: %w", err)
	}
	return l, nil
}

// Serve answers requests until ctx ends. Then /readyz says so, no new connection is taken, and requests, and after them
// jobs, have [ShutdownTimeout] to finish; what takes longer is cut off, and jobs run again later. Call [App.Start] before;
// Serve stops the application and closes the listener.
func (a *App) Serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	var open connections
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ConnState: open.note,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-ctx.Done():
		a.cfg.Logger.InfoContext(ctx, "stopping: requests and jobs finish first")
	case err = <-failed:
	}
	a.ending.Store(true)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), ShutdownTimeout)
	defer cancel()
	if err == nil {
		err = l.Close()
		if ended := <-failed; !errors.Is(ended, net.ErrClosed) { // from here on no connection is new
			err = errors.Join(err, ended)
		}
		server.SetKeepAlivesEnabled(false)
		open.wait(end)
	}
	return errors.Join(err, server.Shutdown(end), a.Stop(end))
}

// arrival is how long the request of a connection that was taken may take to arrive when the process is to stop. Requests
// that [http.Server.Shutdown] reads after it was called are dropped.
const arrival = 5 * time.Second

// connections counts those of a server that are open.
type connections struct{ n atomic.Int64 }

// note is for [http.Server.ConnState].
func (c *connections) note(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.n.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.n.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// wait returns when none is open, and after the time of arrival: then only requests that are being answered are left.
func (c *connections) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.n.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
