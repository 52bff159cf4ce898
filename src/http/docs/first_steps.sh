server=http://localhost:8080

# On the server, beside its database. Until the first key is created,
# the server requires none.
key=$(bipedalnet keys create --name "first steps" \
  --scopes enroll,identify)

# Two walks of one simulated person. A phone sends the same format.
curl -O $server/docs/monday.json
curl -O $server/docs/tuesday.json

request() {
  curl --fail-with-body -H "authorization: Bearer $key" "$@"
}
send() {
  request -H 'content-type: application/json' --data-binary "$@"
}

request -X PUT $server/v1/users/ann
send @monday.json $server/v1/users/ann/enrollments
send @tuesday.json $server/v1/identify
