// A session with the client of openapi-generator's go: client URL KEY WALKS...
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"reflect"

	openapi "bipedalnet_client"
)

func check(ok bool, about ...any) {
	if !ok {
		log.Fatal(about...)
	}
}

func read(file string) openapi.WalkDocument {
	bytes, err := os.ReadFile(file)
	check(err == nil, err)
	var walk openapi.WalkDocument
	err = json.Unmarshal(bytes, &walk)
	check(err == nil, err)
	return walk
}

func main() {
	url, key, files := os.Args[1], os.Args[2], os.Args[3:]
	configuration := openapi.NewConfiguration()
	configuration.Servers[0].URL = url
	client := openapi.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), openapi.ContextAccessToken, key)
	user := "made-by-go"

	created, response, err := client.UsersAPI.PutUser(ctx, user).Execute()
	check(err == nil, err)
	check(response.StatusCode == 201 && created.Status == "collecting", created)

	enroll := client.EnrollmentsAPI.Enroll(ctx, user).WalkDocument(read(files[0])).IdempotencyKey("go")
	enrolled, _, err := enroll.Execute()
	check(err == nil, err)
	check(enrolled.Status == "ready", enrolled)
	retried, response, err := enroll.Execute()
	check(err == nil, err)
	check(reflect.DeepEqual(retried, enrolled), retried)
	check(response.Header.Get("Idempotency-Replayed") == "true", response.Header)

	identified, _, err := client.RecognitionAPI.Identify(ctx).WalkDocument(read(files[1])).Execute()
	check(err == nil, err)
	check(identified.GetUser() == user, identified)
	verified, _, err := client.RecognitionAPI.Verify(ctx, user).Fmr(0.01).WalkDocument(read(files[2])).Execute()
	check(err == nil, err)
	check(verified.Decision == "accept", verified)

	_, response, err = client.UsersAPI.GetUser(ctx, "nobody").Execute()
	check(err != nil && response.StatusCode == http.StatusNotFound, response)
}
