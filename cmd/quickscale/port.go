package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// portFree tells who has an address that is taken.
func portFree(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("QUICKSCALE_ADDR: %w", err)
	}
	_, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return splitErr
	}
	owner := "another program, which only its owner or root can name"
	if pid, name, ok := portOwner(port); ok {
		owner = fmt.Sprintf("process %d (%s)", pid, name)
	}
	return fmt.Errorf("%s is taken by %s; stop it, or set QUICKSCALE_ADDR to another address", addr, owner)
}

// portOwner finds the process that listens on a TCP port: from /proc on Linux, and by lsof elsewhere.
func portOwner(port string) (pid int, name string, ok bool) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, "", false
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(table, uint16(number), inodes)
	}
	if len(inodes) == 0 {
		return lsofOwner(port)
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, "", false
	}
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil { // another person's, or gone meanwhile
			continue
		}
		if !inodes[to] {
			continue
		}
		owner := strings.Split(link, "/")[2]
		if pid, err = strconv.Atoi(owner); err != nil {
			continue
		}
		comm, err := os.ReadFile("/proc/" + owner + "/comm")
		return pid, strings.TrimSpace(string(comm)), err == nil
	}
	return 0, "", false
}

// listening adds the sockets that listen on a port, as /proc/PID/fd links to them; see proc(5).
func listening(table string, port uint16, inodes map[string]bool) {
	const (
		local, state, inode = 1, 3, 9
		listen              = "0A"
	)
	f, err := os.Open(table)
	if err != nil { // no Linux
		return
	}
	defer f.Close()
	want := strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)})) //nolint:gosec,mnd // the two bytes of a port
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > inode && fields[state] == listen && strings.HasSuffix(fields[local], ":"+want) {
			inodes["socket:["+fields[inode]+"]"] = true
		}
	}
}

func lsofOwner(port string) (pid int, name string, ok bool) {
	said, err := exec.Command("lsof", "-nP", "-iTCP:"+port, "-sTCP:LISTEN", "-Fpc").Output() //nolint:gosec // the port is a number
	if err != nil {
		return 0, "", false
	}
	for line := range strings.Lines(string(said)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "p") && pid == 0:
			if pid, err = strconv.Atoi(line[1:]); err != nil {
				return 0, "", false
			}
		case strings.HasPrefix(line, "c") && name == "":
			name = line[1:]
		}
	}
	return pid, name, pid != 0
}
