// JDBC: statements that the driver prepares by itself, batches, savepoints, COPY, fetch sizes, errors.
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

public class Jdbc {
    static String url;

    static Connection connect() throws SQLException {
        return DriverManager.getConnection(url, "postgres", "");
    }

    static long number(Connection session, String sql) throws SQLException {
        try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    static long shop(int number) throws SQLException {
        long total = 0;
        try (Connection session = connect()) {
            session.setAutoCommit(false);
            try (PreparedStatement insert = session.prepareStatement("INSERT INTO item (name, shop) VALUES (?, ?)");
                 PreparedStatement count = session.prepareStatement("SELECT count(*) FROM item WHERE shop = ?")) {
                for (int turn = 0; turn < 20; turn++) {
                    insert.setString(1, number + " " + turn);
                    insert.setInt(2, number);
                    insert.executeUpdate();
                    count.setInt(1, number);
                    try (ResultSet rows = count.executeQuery()) {
                        rows.next();
                        total += rows.getLong(1);
                    }
                    session.commit();
                }
            }
        }
        return total;
    }

    public static void main(String[] arguments) throws Exception {
        url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/" + arguments[2];
        try (Connection session = connect()) {
            session.createStatement().execute(
                "CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, shop int, at timestamptz)");
            // After the fifth time the driver prepares it by name.
            try (PreparedStatement insert = session.prepareStatement(
                    "INSERT INTO item (name, at) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int number = 0; number < 20; number++) {
                    insert.setString(1, "name " + number);
                    insert.setTimestamp(2, new Timestamp(0));
                    insert.executeUpdate();
                    try (ResultSet keys = insert.getGeneratedKeys()) {
                        keys.next();
                        System.out.println("inserted " + keys.getInt("id") + " " + keys.getString("name"));
                    }
                }
                for (int number = 0; number < 1000; number++) {
                    insert.setString(1, "batch " + number);
                    insert.setNull(2, Types.TIMESTAMP);
                    insert.addBatch();
                }
                System.out.println("batch " + insert.executeBatch().length);
            }
            session.setAutoCommit(false);
            for (int attempt = 0; attempt < 8; attempt++) {
                Savepoint savepoint = session.setSavepoint();
                try (PreparedStatement insert = session.prepareStatement("INSERT INTO item (name) VALUES (?)")) {
                    insert.setString(1, "name 1");
                    insert.executeUpdate();
                } catch (SQLException error) {
                    System.out.println("refused " + error.getSQLState());
                    session.rollback(savepoint);
                }
            }
            session.commit();
            var copy = session.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder rows = new StringBuilder();
            for (int number = 0; number < 3000; number++) {
                rows.append("copied ").append(number).append('\n');
            }
            System.out.println("copied " + copy.copyIn("COPY item (name) FROM STDIN", new StringReader(rows.toString())));
            StringWriter out = new StringWriter();
            copy.copyOut("COPY (SELECT id FROM item ORDER BY id LIMIT 5) TO STDOUT", out);
            System.out.println(out.toString().replace('\n', ' '));
            session.commit();
            // A portal that is read a hundred rows at a time.
            try (Statement statement = session.createStatement()) {
                statement.setFetchSize(100);
                int seen = 0;
                try (ResultSet all = statement.executeQuery("SELECT id FROM item ORDER BY id")) {
                    while (all.next()) {
                        seen++;
                    }
                }
                System.out.println("fetched " + seen);
            }
            session.commit();
            session.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            System.out.println("serializable " + number(session, "SELECT count(*) FROM item"));
            session.commit();
            try (Statement statement = session.createStatement()) {
                statement.setQueryTimeout(1);
                statement.execute("SELECT pg_sleep(20)");
            } catch (SQLException error) {
                System.out.println("cancelled " + error.getSQLState());
            }
            session.rollback();
            DatabaseMetaData about = session.getMetaData();
            try (ResultSet columns = about.getColumns(null, "public", "item", "%")) {
                while (columns.next()) {
                    System.out.println("column " + columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
                }
            }
            session.commit();
        }
        ExecutorService threads = Executors.newFixedThreadPool(50);
        List<Future<Long>> shops = new ArrayList<>();
        for (int number = 0; number < 50; number++) {
            int own = number;
            shops.add(threads.submit(() -> shop(own)));
        }
        long total = 0;
        for (Future<Long> one : shops) {
            total += one.get();
        }
        threads.shutdown();
        System.out.println("shops " + total);
        try (Connection session = connect()) {
            System.out.println("rows " + number(session, "SELECT count(*) FROM item"));
        }
    }
}
