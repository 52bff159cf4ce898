//! `bipedalnet healthcheck`, with and without TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Output};

use crate::serving::Serving;
use crate::support::{certificate, program, text};

/// Runs the command in the server's folder, with its settings file.
fn check(server: &Serving, configure: impl FnOnce(&mut Command)) -> Output {
    let mut command = program();
    command.arg("healthcheck").current_dir(server.folder.path());
    command.env("BIPEDALNET_CONFIG", "b.toml");
    configure(&mut command);
    command.output().unwrap()
}

#[test]
fn it_succeeds_only_while_the_server_runs() {
    let server = Serving::start(tempfile::tempdir().unwrap(), "", &[]);
    let url = format!("http://{}", server.address);
    let by_url = || program().args(["healthcheck", "--url", &url]).output().unwrap();
    let port = server.address.parse::<SocketAddr>().unwrap().port();
    // In a container the server listens on all addresses.
    for listen in [server.address.clone(), format!("0.0.0.0:{port}")] {
        let checked = check(&server, |command| {
            command.env("BIPEDALNET_LISTEN", &listen);
        });
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    }
    assert!(by_url().status.success(), "{:?}", by_url());
    server.stop();
    assert_eq!(by_url().status.code(), Some(1));
    let stopped = program().args(["healthcheck", "--listen", &url[7..]]).output().unwrap();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(text(&stopped.stderr).contains(&url[7..]), "{stopped:?}");
}

#[test]
fn another_program_is_not_a_server_that_runs() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
    });
    let checked = program().args(["healthcheck", "--listen", &address]).output().unwrap();
    other.join().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stderr).contains("404"), "{checked:?}");
}

#[test]
fn with_tls_it_trusts_the_servers_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [own, key] = certificate(folder.path(), "own");
    let [other, _] = certificate(folder.path(), "other");
    let settings = format!("tls-certificate = {own:?}\ntls-key = {key:?}\n");
    let mut server = Serving::start(folder, &settings, &[]);
    let address = server.address.clone();
    let listen = |command: &mut Command| {
        command.args(["--listen", &address]);
    };
    let checked = check(&server, listen);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");

    // A restart with files that do not fit would end a server that works.
    fs::copy(other, own).unwrap();
    server.hang_up();
    server.until("certificate not reloaded", &mut Vec::new());
    let checked = check(&server, listen);
    assert!(checked.status.success(), "{checked:?}");
    assert!(text(&checked.stderr).contains("another certificate than"), "{checked:?}");

    // Without TLS, the server does not understand it.
    let checked = program().args(["healthcheck", "--listen", &address]).output().unwrap();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    server.stop();
    let stopped = program().args(["healthcheck", "--listen", &address]).output().unwrap();
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
}
