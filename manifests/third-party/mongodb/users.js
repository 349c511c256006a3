// Runs once, when the data directory is empty: the user of the records, who may write them and nothing else.
db.getSiblingDB("ai_vs_real").createUser({
  user: process.env.RECORDS_USERNAME,
  pwd: process.env.RECORDS_PASSWORD,
  roles: [{ role: "readWrite", db: "ai_vs_real" }],
});
