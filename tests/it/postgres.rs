//! The kit's own PostgreSQL: what the other tests rely on.

use std::str::FromStr;

use keyward_tests::postgres::{PrivateCluster, TestDatabase, database};
use tokio_postgres::{Client, Config, NoTls};

async fn connect(database: &TestDatabase) -> Client {
    let config = Config::from_str(database.url()).unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn tables(client: &Client) -> i64 {
    let count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    client.query_one(count, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_test_gets_an_empty_postgresql_database_of_its_own() {
    let (one, other) = (database().await, database().await);
    let (one, other) = (connect(&one).await, connect(&other).await);
    one.batch_execute("CREATE TABLE t (n BIGINT)").await.unwrap();
    assert_eq!((tables(&one).await, tables(&other).await), (1, 0));
}

#[tokio::test]
async fn a_database_ends_with_its_test_even_when_a_connection_is_open() {
    let (kept, dropped) = (database().await, database().await);
    let url = dropped.url().to_owned();
    let client = connect(&dropped).await;
    drop(dropped);
    client.batch_execute("SELECT 1").await.unwrap_err();
    let error = Config::from_str(&url).unwrap().connect(NoTls).await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "3D000", "{error}");
    assert_eq!(tables(&connect(&kept).await).await, 0);
}

#[tokio::test]
async fn a_killed_postgresql_comes_back_at_its_address_with_what_it_acknowledged() {
    let cluster = PrivateCluster::start();
    let database = cluster.database().await;
    let client = connect(&database).await;
    client.batch_execute("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)").await.unwrap();

    cluster.kill_9();
    client.batch_execute("SELECT 1").await.unwrap_err();
    cluster.start_again();

    let row = connect(&database).await.query_one("SELECT n FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 7);
}
