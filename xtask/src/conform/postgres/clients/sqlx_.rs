//! sqlx: its pool, statements that it prepares and keeps, transactions, errors, notifications, COPY.

use futures_util::{TryStreamExt, future};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::{Error, Executor, Row};

fn code(error: &Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.map_or_else(|| error.to_string(), |code| code.into_owned())
}

async fn shop(pool: PgPool, number: i32) -> Result<i64, Error> {
    let mut total = 0;
    for turn in 0..20 {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO item (name, shop) VALUES ($1, $2)")
            .bind(format!("{number} {turn}"))
            .bind(number)
            .execute(&mut *transaction)
            .await?;
        total += sqlx::query_scalar::<_, i64>("SELECT count(*) FROM item WHERE shop = $1")
            .bind(number)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(total)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments[2].parse().expect("a port");
    let options = PgConnectOptions::new()
        .host(&arguments[1])
        .port(port)
        .username("postgres")
        .database(&arguments[3]);
    let pool = PgPoolOptions::new().max_connections(50).connect_with(options.clone()).await?;
    pool.execute("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, shop int)").await?;
    for number in 0..20 {
        let row = sqlx::query("INSERT INTO item (name) VALUES ($1) RETURNING id, name")
            .bind(format!("name {number}"))
            .fetch_one(&pool)
            .await?;
        println!("inserted {} {}", row.get::<i32, _>(0), row.get::<String, _>(1));
    }
    for _ in 0..3 {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO item (name) VALUES ('undone')").execute(&mut *transaction).await?;
        let again = sqlx::query("INSERT INTO item (name) VALUES ($1)").bind("name 1");
        match again.execute(&mut *transaction).await {
            Ok(_) => println!("inserted twice"),
            Err(error) => println!("refused {}", code(&error)),
        }
        transaction.rollback().await?;
    }
    match sqlx::query("SELEC 1").execute(&pool).await {
        Ok(_) => println!("executed"),
        Err(error) => println!("refused {}", code(&error)),
    }
    // A transaction in a transaction.
    let mut outer = pool.begin().await?;
    {
        use sqlx::Acquire;
        let mut inner = outer.begin().await?;
        sqlx::query("INSERT INTO item (name) VALUES ('inner')").execute(&mut *inner).await?;
        inner.rollback().await?;
    }
    sqlx::query("INSERT INTO item (name) VALUES ('outer')").execute(&mut *outer).await?;
    outer.commit().await?;
    let names = sqlx::query_scalar::<_, String>("SELECT name FROM item WHERE name LIKE '%er'");
    println!("{:?}", names.fetch_all(&pool).await?);
    // Row by row.
    let mut rows = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, 5000)").fetch(&pool);
    let mut sum = 0;
    while let Some(number) = rows.try_next().await? {
        sum += number;
    }
    drop(rows);
    println!("streamed {sum}");
    // The same statement after what it reads has changed.
    let wide = || sqlx::query("SELECT * FROM item ORDER BY id LIMIT 1").fetch_one(&pool);
    println!("columns {}", wide().await?.len());
    pool.execute("ALTER TABLE item ADD COLUMN more text").await?;
    let changed = match wide().await {
        Ok(row) => Ok(row),
        // Postgres' own answer to a client that has prepared it: it is to prepare anew.
        Err(_) => wide().await,
    };
    println!("columns {}", changed?.len());
    let mut copy = pool.copy_in_raw("COPY item (name) FROM STDIN").await?;
    let lines: String = (0..3000).map(|number| format!("copied {number}\n")).collect();
    copy.send(lines.into_bytes()).await?;
    println!("copied {}", copy.finish().await?);
    let out = pool.copy_out_raw("COPY (SELECT id FROM item ORDER BY id LIMIT 5) TO STDOUT").await?;
    let pieces: Vec<_> = out.try_collect().await?;
    println!("{:?}", pieces.concat().escape_ascii().to_string());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("news").await?;
    for number in 0..20 {
        let notify = sqlx::query("SELECT pg_notify('news', $1)").bind(format!("{number}"));
        notify.execute(&pool).await?;
    }
    let mut heard = Vec::new();
    while heard.len() < 20 {
        heard.push(listener.recv().await?.payload().to_owned());
    }
    println!("heard {}", heard.join(" "));
    drop(listener);
    let shops = (0..50).map(|number| tokio::spawn(shop(pool.clone(), number)));
    let mut total = 0;
    for one in future::join_all(shops).await {
        total += one.expect("it ends")?;
    }
    println!("shops {total}");
    let rows = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM item").fetch_one(&pool).await?;
    println!("rows {rows}");
    pool.close().await;
    Ok(())
}
