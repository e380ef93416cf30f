//! Who gets in, and how the services end.

use customhouse_client::contract::REASON_CODE;
use tokio_rustls::rustls::HandshakeKind;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{raw::shake_hands, *};

/// The error of a call over these TLS settings, if it has one.
async fn call(endpoint: &str, tls: ClientTlsConfig) -> Result<(), Status> {
    let endpoint = Endpoint::from_shared(format!("https://{endpoint}")).expect("an endpoint");
    let channel = endpoint.tls_config(tls).expect("settings").connect_lazy();
    let check = HealthCheckRequest { service: String::new() };
    let answer = timeout(DEADLINE, HealthClient::new(channel).check(check)).await;
    answer.expect("in time").map(|_| ())
}

/// The connection must end before any service has seen the call: with TLS 1.3 the client learns of
/// its refusal with its first read, as a broken connection. A service's refusal has a reason code.
async fn assert_refused(fixture: &Fixture, tls: ClientTlsConfig, why: &str) {
    let status = call(&fixture.endpoint, tls).await.expect_err(why);
    assert!(status.metadata().get(REASON_CODE).is_none(), "{why}: {status}");
    assert!(
        matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Cancelled),
        "{why}: {status:?}"
    );
}

async fn health(channel: Channel, service: &str) -> ServingStatus {
    let check = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(check).await.expect("answered");
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_the_agency_s_authority_gets_past_the_handshake() {
    let fixture = Fixture::start().await;
    let authority = Certificate::from_pem(fixture.authority.certificate());
    let without = ClientTlsConfig::new().ca_certificate(authority);
    assert_refused(&fixture, without, "no client certificate").await;
    // Of the same agency by name, but signed by a key that is not the agency's.
    for agency in ["NL-DOUANE", "KR-KCS"] {
        let other = Authority::new(agency.parse().expect("a code")).expect("made");
        let foreign = fixture.tls_of(&other, Role::Operator).config();
        assert_refused(&fixture, foreign, agency).await;
    }
    // The node's own certificate is not for clients.
    let server = fixture.authority.server(&[]).expect("made");
    let tls = ClientTls { authority: fixture.authority.certificate().to_owned(), own: server };
    assert_refused(&fixture, tls.config(), "a server's certificate").await;
    call(&fixture.endpoint, fixture.tls(Role::Officer).config()).await.expect("served");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_speak_to_a_node_of_another_authority() {
    let fixture = Fixture::start().await;
    let other = Authority::new("NL-DOUANE".parse().expect("a code")).expect("made");
    let tls = ClientTls {
        authority: other.certificate().to_owned(),
        own: fixture.authority.client("broker", Role::Officer).expect("made"),
    };
    let error = Client::connect(&fixture.endpoint, &tls).await.expect_err("refused");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "the cause is named: {error}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_any_role() {
    let fixture = Fixture::start().await;
    for role in Role::ALL {
        let client = fixture.client(role).await;
        for service in ["", "customhouse.v1.Submission", "customhouse.v1.Audit"] {
            assert_eq!(health(client.channel(), service).await, ServingStatus::Serving);
        }
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(client.channel());
        let answers = reflection.server_reflection_info(stream::iter([request])).await;
        let answer = answers.expect("answered").into_inner().next().await.expect("one");
        let Some(MessageResponse::ListServicesResponse(list)) =
            answer.expect("no error").message_response
        else {
            panic!("a list of services")
        };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        for service in ["Submission", "Import", "Query", "Audit", "Admin"] {
            assert!(names.contains(&format!("customhouse.v1.{service}")), "{names:?}");
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_is_told_by_health_and_ends_open_streams() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let check = HealthCheckRequest { service: "customhouse.v1.Submission".into() };
    let watch = HealthClient::new(client.channel()).watch(check).await.expect("watching");
    let mut watch = watch.into_inner();
    let first = watch.next().await.expect("a status").expect("no error");
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut answers = client.stream_records(stream::pending()).await.expect("open");
    fixture.shutdown.cancel();
    let status = timeout(DEADLINE, answers.message()).await.expect("in time").expect_err("ended");
    assert_eq!(status.code(), Code::Unavailable);
    let second = timeout(DEADLINE, watch.next()).await.expect("in time").expect("a status");
    assert_eq!(second.expect("no error").status(), ServingStatus::NotServing);
    fixture.stop().await;
    // The client would watch for ever: it is cut off, and does not hold the node up.
    timeout(DEADLINE, watch.collect::<Vec<_>>()).await.expect("cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_looked_at_in_every_handshake() {
    let fixture = Fixture::start().await;
    let config = fixture.tls(Role::Officer).client_config().expect("settings");
    for _ in 0..3 {
        let mut tls = shake_hands(&fixture, config.clone()).await;
        // Tickets would come with the node's first bytes.
        tls.read_exact(&mut [0; 9]).await.expect("HTTP/2's settings");
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let fixture = Fixture::start().await;
    let mut silent = tokio::net::TcpStream::connect(&fixture.endpoint).await.expect("connected");
    let read = timeout(DEADLINE, silent.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    fixture.stop().await;
}
