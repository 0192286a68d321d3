// What programs in Go with redigo do. Arguments: the port, the port of a server with TLS and users, the file of its authority.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// check ends the program unless what was answered is what was expected.
func check(what string, expected, answer interface{}, err error) {
	if err != nil || fmt.Sprint(expected) != fmt.Sprint(answer) {
		panic(fmt.Sprintf("%s: expected %v, got %v, %v", what, expected, answer, err))
	}
}

func refused(words string, err error) {
	if err == nil || !strings.Contains(err.Error(), words) {
		panic(fmt.Sprintf("expected %q, got %v", words, err))
	}
}

func dial(port string, options ...redis.DialOption) redis.Conn {
	conn, err := redis.Dial("tcp", "127.0.0.1:"+port, options...)
	if err != nil {
		panic(err)
	}
	return conn
}

func text(conn redis.Conn, command string, args ...interface{}) {
	expected := args[len(args)-1]
	answer, err := redis.String(conn.Do(command, args[:len(args)-1]...))
	check(command, expected, answer, err)
}

func number(conn redis.Conn, command string, args ...interface{}) {
	expected := args[len(args)-1]
	answer, err := redis.Int(conn.Do(command, args[:len(args)-1]...))
	check(command, expected, answer, err)
}

func stringsAndCounters(conn redis.Conn) {
	text(conn, "FLUSHALL", "OK")
	text(conn, "SET", "a", 1, "OK")
	answer, err := conn.Do("SET", "a", 2, "NX")
	check("SET NX", nil, answer, err)
	text(conn, "SET", "a", 2, "EX", 100, "GET", "1")
	number(conn, "PERSIST", "a", 1)
	number(conn, "TTL", "a", -1)
	number(conn, "INCRBY", "a", 5, 7)
	text(conn, "INCRBYFLOAT", "a", 0.5, "7.5")
	text(conn, "MSET", redis.Args{}.AddFlat(map[string]string{"x": "1", "y": "zwei"}).Add("OK")...)
	values, err := redis.Strings(conn.Do("MGET", "x", "y", "absent"))
	check("MGET", []string{"1", "zwei", ""}, values, err)
	number(conn, "DEL", "a", "x", "y", 3)
	every := make([]byte, 256)
	for n := range every {
		every[n] = byte(n)
	}
	text(conn, "SET", every, every, "OK")
	got, err := redis.Bytes(conn.Do("GET", every))
	check("GET of any bytes", true, bytes.Equal(got, every), err)
	number(conn, "DEL", every, 1)
}

func pipelinesAndScans(conn redis.Conn) {
	for n := 0; n < 1000; n++ {
		check("SEND", nil, nil, conn.Send("SET", fmt.Sprintf("key:%d", n), n))
	}
	check("FLUSH", nil, nil, conn.Flush())
	for n := 0; n < 1000; n++ {
		answer, err := redis.String(conn.Receive())
		check("SET", "OK", answer, err)
	}
	cursor, seen := "0", map[string]bool{}
	for begun := false; !begun || cursor != "0"; begun = true {
		answer, err := redis.Values(conn.Do("SCAN", cursor, "MATCH", "key:*", "COUNT", 100))
		check("SCAN", 2, len(answer), err)
		var keys []string
		_, err = redis.Scan(answer, &cursor, &keys)
		check("SCAN", nil, nil, err)
		for _, key := range keys {
			seen[key] = true
		}
	}
	check("SCAN", 1000, len(seen), nil)
}

func transactions(conn, other redis.Conn) {
	text(conn, "WATCH", "n", "OK")
	text(other, "SET", "n", "another's", "OK")
	check("MULTI", nil, nil, conn.Send("MULTI"))
	check("SET", nil, nil, conn.Send("SET", "n", "mine"))
	answer, err := conn.Do("EXEC")
	check("EXEC", nil, answer, err)
	check("MULTI", nil, nil, conn.Send("MULTI"))
	check("SET", nil, nil, conn.Send("SET", "n", 1))
	check("INCR", nil, nil, conn.Send("INCR", "n"))
	answers, err := redis.Values(conn.Do("EXEC"))
	check("EXEC", []interface{}{"OK", int64(2)}, answers, err)
}

func refusals(conn redis.Conn) {
	text(conn, "SET", "text", "t", "OK")
	for words, command := range map[string][]interface{}{
		"ERR value is not an integer or out of range":     {"INCR", "text"},
		"not supported by Esker":                          {"LPUSH", "l", "v"},
		"ERR unknown command 'NONSENSE'":                  {"NONSENSE"},
		"ERR wrong number of arguments for 'get' command": {"GET"},
	} {
		_, err := conn.Do(command[0].(string), command[1:]...)
		refused(words, err)
	}
}

func restart(port string) {
	pool := &redis.Pool{
		Dial: func() (redis.Conn, error) { return redis.Dial("tcp", "127.0.0.1:"+port) },
	}
	conn := pool.Get()
	text(conn, "SET", "stays", "here", "OK")
	conn.Close()
	fmt.Println("restart")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	check("restarted", nil, nil, err)
	// A pool does not know of the end of a connection before it is used: it gives another one the next time.
	stale := pool.Get()
	stale.Do("PING")
	stale.Close()
	text(pool.Get(), "GET", "stays", "here")
}

func secure(port, authority string) {
	pem, err := os.ReadFile(authority)
	check("the authority", nil, nil, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	with := func(user, password string, roots *x509.CertPool) (redis.Conn, error) {
		return redis.Dial("tcp", "127.0.0.1:"+port, redis.DialUseTLS(true), redis.DialUsername(user),
			redis.DialPassword(password), redis.DialTLSConfig(&tls.Config{RootCAs: roots, ServerName: "localhost"}))
	}
	conn, err := with("app", "open-sesame", roots)
	check("AUTH", nil, nil, err)
	text(conn, "ACL", "WHOAMI", "app")
	text(conn, "SET", "app/k", "v", "OK")
	_, err = conn.Do("GET", "other")
	refused("NOPERM", err)
	_, err = with("app", "wrong", roots)
	refused("WRONGPASS", err)
	stranger, err := with("", "", roots)
	check("a stranger's connection", nil, nil, err)
	_, err = stranger.Do("GET", "app/k")
	refused("NOAUTH", err)
	_, err = with("app", "open-sesame", x509.NewCertPool())
	refused("certificate", err)
}

func main() {
	port, securePort, authority := os.Args[1], os.Args[2], os.Args[3]
	conn, other := dial(port), dial(port)
	stringsAndCounters(conn)
	pipelinesAndScans(conn)
	transactions(conn, other)
	refusals(conn)
	conn.Close()
	other.Close()
	restart(port)
	secure(securePort, authority)
}
