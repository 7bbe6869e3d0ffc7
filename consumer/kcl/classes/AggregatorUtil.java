// In place of KCL's class of this name, which takes KPL aggregates apart in the JVM, without a bound. Penstock's host
// takes them apart itself (pipeline/aggregate.py), so every method returns the list that it is given.
// Compiled by: javac --release 8 -g:none -cp "<KCL's jars>/*" AggregatorUtil.java
package software.amazon.kinesis.retrieval;

import java.math.BigInteger;
import java.util.List;

public class AggregatorUtil {
    static {
        System.out.println("penstock: KCL hands aggregates over whole");
    }

    public List<KinesisClientRecord> deaggregate(List<KinesisClientRecord> records) {
        return records;
    }

    public List<KinesisClientRecord> deaggregate(List<KinesisClientRecord> records, String first, String last) {
        return records;
    }

    public List<KinesisClientRecord> deaggregate(List<KinesisClientRecord> records, BigInteger first, BigInteger last) {
        return records;
    }
}
