//! tokio-postgres: prepared statements, pipelining, transactions, COPY, errors, cancelling, many sessions.

use futures_util::{SinkExt, TryStreamExt, future, pin_mut};
use std::time::Duration;
use tokio_postgres::{Client, Error, NoTls};

async fn connect(config: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("the connection: {error}");
        }
    });
    Ok(client)
}

fn code(error: &Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

async fn shop(config: String, number: i32) -> Result<i64, Error> {
    let mut client = connect(&config).await?;
    let insert = client.prepare("INSERT INTO item (name, shop) VALUES ($1, $2)").await?;
    let count = client.prepare("SELECT count(*) FROM item WHERE shop = $1").await?;
    let mut total = 0;
    for turn in 0..20 {
        let transaction = client.transaction().await?;
        transaction.execute(&insert, &[&format!("{number} {turn}"), &number]).await?;
        total += transaction.query_one(&count, &[&number]).await?.get::<_, i64>(0);
        transaction.commit().await?;
    }
    Ok(total)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let config = format!(
        "host={} port={} user=postgres dbname={}",
        arguments[1], arguments[2], arguments[3]
    );
    let mut client = connect(&config).await?;
    client
        .batch_execute("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, shop int)")
        .await?;
    let insert = client.prepare("INSERT INTO item (name) VALUES ($1) RETURNING id, name").await?;
    for number in 0..20 {
        let row = client.query_one(&insert, &[&format!("name {number}")]).await?;
        println!("inserted {} {}", row.get::<_, i32>(0), row.get::<_, String>(1));
    }
    for _ in 0..3 {
        let transaction = client.transaction().await?;
        transaction.execute("INSERT INTO item (name) VALUES ('undone')", &[]).await?;
        match transaction.query_one(&insert, &[&"name 1"]).await {
            Ok(_) => println!("inserted twice"),
            Err(error) => println!("refused {}", code(&error)),
        }
        transaction.rollback().await?;
    }
    match client.prepare("SELEC 1").await {
        Ok(_) => println!("prepared"),
        Err(error) => println!("refused {}", code(&error)),
    }
    let double = client.prepare("SELECT $1::int * 2").await?;
    let queries = (0..100).map(|number| {
        let (client, double) = (&client, &double);
        async move { Ok::<i32, Error>(client.query_one(double, &[&number]).await?.get(0)) }
    });
    println!("pipeline {}", future::try_join_all(queries).await?.iter().sum::<i32>());
    let sink = client.copy_in::<_, bytes::Bytes>("COPY item (name) FROM STDIN").await?;
    pin_mut!(sink);
    for number in 0..3000 {
        sink.send(format!("copied {number}\n").into()).await?;
    }
    println!("copied {}", sink.finish().await?);
    let out = client.copy_out("COPY (SELECT id FROM item ORDER BY id LIMIT 5) TO STDOUT").await?;
    let pieces: Vec<bytes::Bytes> = out.try_collect().await?;
    println!("{:?}", pieces.concat().escape_ascii().to_string());
    let cancel = client.cancel_token();
    let sleep = client.batch_execute("SELECT pg_sleep(20)");
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel_query(NoTls).await
    };
    let (slept, cancelled) = future::join(sleep, later).await;
    cancelled?;
    println!("cancelled {}", slept.err().map(|error| code(&error)).unwrap_or_default());
    let shops = (0..50).map(|number| tokio::spawn(shop(config.clone(), number)));
    let mut total = 0;
    for one in future::join_all(shops).await {
        total += one??;
    }
    println!("shops {total}");
    let rows = client.query_one("SELECT count(*) FROM item", &[]).await?;
    println!("rows {}", rows.get::<_, i64>(0));
    Ok(())
}
