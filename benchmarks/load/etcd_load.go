// A load client for etcd over gRPC.
//
//	etcd_load load     ADDRESS CLIENTS CONNECTIONS GET SECONDS   closed loop: one request in flight for each client
//	etcd_load failover ADDRESS,ADDRESS PID SIGNAL                signal a process, put every 2 ms until one is answered
//
// Its output, keys and values are those of resp_load.c.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/etcdserver/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	valueBytes = 256
	keys       = 100000
	warmUp     = 500 * time.Millisecond
)

var value = make([]byte, valueBytes)

func processor() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

func fail(what error) {
	fmt.Fprintln(os.Stderr, "etcd_load:", what)
	os.Exit(3)
}

func dial(address string) pb.KVClient {
	connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithBlock(), grpc.WithTimeout(5*time.Second))
	if err != nil {
		fail(err)
	}
	return pb.NewKVClient(connection)
}

func load(address string, clients, connections int, gets bool, seconds float64) {
	var servers []pb.KVClient
	for i := 0; i < connections; i++ {
		servers = append(servers, dial(address))
	}
	begin := time.Now().Add(warmUp)
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	took := make([][]float64, clients)
	var errors, total int64
	var done sync.WaitGroup
	for c := 0; c < clients; c++ {
		done.Add(1)
		go func(c int) {
			defer done.Done()
			dice := rand.New(rand.NewSource(int64(c)))
			server := servers[c%connections]
			for {
				key := []byte(fmt.Sprintf("%08d", dice.Intn(keys)))
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				sent := time.Now()
				var err error
				if gets {
					_, err = server.Range(ctx, &pb.RangeRequest{Key: key})
				} else {
					_, err = server.Put(ctx, &pb.PutRequest{Key: key, Value: value})
				}
				answered := time.Now()
				cancel()
				if answered.After(end) {
					return
				}
				if answered.After(begin) {
					atomic.AddInt64(&total, 1)
				}
				if err != nil {
					atomic.AddInt64(&errors, 1)
				} else if sent.After(begin) {
					took[c] = append(took[c], answered.Sub(sent).Seconds()*1e3)
				}
			}
		}(c)
	}
	time.Sleep(time.Until(begin))
	used := processor()
	fmt.Println("ready")
	time.Sleep(time.Until(end))
	used = processor() - used
	done.Wait()
	var all []float64
	for _, some := range took {
		all = append(all, some...)
	}
	sort.Float64s(all)
	quantile := func(part float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[int(part*float64(len(all)-1))]
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"operations": total, "per_second": float64(total) / seconds, "p50_ms": quantile(.5), "p99_ms": quantile(.99),
		"longest_ms": quantile(1), "client_processor": used / seconds, "errors": errors,
	})
}

func failover(addresses []string, pid, number int) {
	var servers []pb.KVClient
	for _, address := range addresses {
		server := dial(address)
		if _, err := server.Put(context.Background(), &pb.PutRequest{Key: []byte("ready"), Value: value}); err != nil {
			fail(err)
		}
		servers = append(servers, server)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errors int64
	done := make(chan time.Duration, 100000)
	begin := time.Now()
	syscall.Kill(pid, syscall.Signal(number))
	tick := time.NewTicker(2 * time.Millisecond)
	for turn := 0; ; turn++ {
		server := servers[turn%len(servers)]
		go func() {
			if _, err := server.Put(ctx, &pb.PutRequest{Key: []byte("failover"), Value: value}); err == nil {
				done <- time.Since(begin)
			} else {
				atomic.AddInt64(&errors, 1)
			}
		}()
		select {
		case took := <-done:
			fmt.Printf("{\"failover_ms\": %.2f, \"errors\": %d}\n", took.Seconds()*1e3, atomic.LoadInt64(&errors))
			return
		case <-ctx.Done():
			fmt.Println("{\"failover_ms\": null}")
			return
		case <-tick.C:
		}
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fail(err)
	}
	return n
}

func main() {
	for i := range value {
		value[i] = byte(33 + rand.Intn(90))
	}
	arguments := os.Args[1:]
	if len(arguments) == 6 && arguments[0] == "load" {
		seconds, err := strconv.ParseFloat(arguments[5], 64)
		if err != nil {
			fail(err)
		}
		load(arguments[1], number(arguments[2]), number(arguments[3]), arguments[4] == "1", seconds)
	} else if len(arguments) == 4 && arguments[0] == "failover" {
		failover(strings.Split(arguments[1], ","), number(arguments[2]), number(arguments[3]))
	} else {
		fmt.Fprintln(os.Stderr, "etcd_load: see the head of etcd_load.go for its arguments")
		os.Exit(2)
	}
}
