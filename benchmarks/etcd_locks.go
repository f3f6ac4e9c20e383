// The counterpart of locks.py for etcd's concurrency package: prints milliseconds as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

type turn struct {
	owner              int
	acquired, released time.Time
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func session(endpoint string) *concurrency.Session {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second})
	must(err)
	for attempt := 0; ; attempt++ {
		context, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = client.Put(context, "ready", "yes")
		cancel()
		if err == nil || attempt > 30 {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	must(err)
	made, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	return made
}

func milliseconds(took time.Duration) float64 { return float64(took.Nanoseconds()) / 1e6 }

func main() {
	endpoints := strings.Split(os.Args[1], ",")
	rounds, err := strconv.Atoi(os.Args[2])
	must(err)
	background := context.Background()
	sessions := []*concurrency.Session{session(endpoints[0]), session(endpoints[1])}
	acquire, release, gaps := []float64{}, []float64{}, []float64{}

	alone := concurrency.NewMutex(sessions[0], "/alone")
	for round := 0; round < rounds+10; round++ {
		begin := time.Now()
		must(alone.Lock(background))
		middle := time.Now()
		must(alone.Unlock(background))
		if round >= 10 {
			acquire = append(acquire, milliseconds(middle.Sub(begin)))
			release = append(release, milliseconds(time.Since(middle)))
		}
	}

	var guard sync.Mutex
	var all sync.WaitGroup
	turns := []turn{}
	for owner, mine := range sessions {
		all.Add(1)
		go func(owner int, mine *concurrency.Session) {
			defer all.Done()
			wanted := concurrency.NewMutex(mine, "/wanted")
			for round := 0; round < rounds; round++ {
				must(wanted.Lock(background))
				acquired := time.Now()
				guard.Lock()
				turns = append(turns, turn{owner, acquired, time.Now()})
				guard.Unlock()
				must(wanted.Unlock(background))
			}
		}(owner, mine)
	}
	all.Wait()
	sort.Slice(turns, func(a, b int) bool { return turns[a].acquired.Before(turns[b].acquired) })
	for place := 1; place < len(turns); place++ {
		if turns[place].owner != turns[place-1].owner {
			gaps = append(gaps, milliseconds(turns[place].acquired.Sub(turns[place-1].released)))
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string][]float64{"acquire": acquire, "release": release, "gaps": gaps}))
}
