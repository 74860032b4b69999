package bench;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams with a RocksDB store and its changelog, one ONNX Runtime call per event.
 *
 * <p>java -cp ... bench.Peer SERVERS INPUT OUTPUT STEP.onnx FOLDER GUARANTEE
 */
public final class Peer {
  private static final String[] FEATURES = {"f0", "f1", "f2"};
  private static final long CACHE_BYTES = 64L << 20;
  private static final JsonFactory JSON = new JsonFactory();

  public static void main(String[] given) throws Exception {
    Properties options = new Properties();
    options.put(StreamsConfig.APPLICATION_ID_CONFIG, given[2]);
    options.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given[0]);
    options.put(StreamsConfig.STATE_DIR_CONFIG, given[4] + "/streams");
    options.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    options.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    options.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, CACHE_BYTES);
    options.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, given[5]);
    options.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    options.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    options.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
    options.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 128 * 1024);

    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    OrtSession.SessionOptions session = new OrtSession.SessionOptions();
    session.setIntraOpNumThreads(1);
    session.setInterOpNumThreads(1);
    OrtSession model = environment.createSession(given[3], session);

    Topology topology = new Topology();
    topology.addSource("in", given[1]);
    topology.addProcessor("step", () -> new Step(environment, model), "in");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("states"), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled(),
        "step");
    topology.addSink("out", given[2], "step");
    KafkaStreams streams = new KafkaStreams(topology, options);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
    streams.start();
  }

  /** The state of a stream: its packed floats, then the number of its steps. */
  private static final class Step extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
    private final OrtEnvironment environment;
    private final OrtSession model;
    private final int width;
    private final ByteBuffer x = ByteBuffer.allocateDirect(4 * FEATURES.length).order(ByteOrder.nativeOrder());
    private final ByteBuffer state;
    private final ByteArrayOutputStream text = new ByteArrayOutputStream(512);
    private KeyValueStore<byte[], byte[]> states;

    Step(OrtEnvironment environment, OrtSession model) {
      this.environment = environment;
      this.model = model;
      try {
        var info = (ai.onnxruntime.TensorInfo) model.getInputInfo().get("state").getInfo();
        this.width = (int) info.getShape()[1];
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
      this.state = ByteBuffer.allocateDirect(4 * width).order(ByteOrder.nativeOrder());
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      super.init(context);
      states = context.getStateStore("states");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        byte[] known = states.get(record.key());
        int steps = 1;
        state.clear();
        if (known == null) {
          for (int at = 0; at < width; at++) {
            state.putFloat(0f);
          }
        } else {
          state.put(known, 0, 4 * width);
          steps += ByteBuffer.wrap(known).order(ByteOrder.nativeOrder()).getInt(4 * width);
        }
        state.flip();
        parse(record.value());
        float probability;
        ByteBuffer next = ByteBuffer.allocate(4 * width + 4).order(ByteOrder.nativeOrder());
        try (OnnxTensor xs = OnnxTensor.createTensor(environment, x.asFloatBuffer(), new long[] {1, FEATURES.length});
            OnnxTensor packed = OnnxTensor.createTensor(environment, state.asFloatBuffer(), new long[] {1, width});
            OrtSession.Result found = model.run(Map.of("x", xs, "state", packed))) {
          probability = ((OnnxTensor) found.get("y").get()).getFloatBuffer().get(0);
          FloatBuffer after = ((OnnxTensor) found.get("state_after").get()).getFloatBuffer();
          next.asFloatBuffer().put(after);
        }
        next.putInt(4 * width, steps);
        states.put(record.key(), next.array());
        context().forward(record.withValue(answer(record, steps, probability)));
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }

    private void parse(byte[] value) throws Exception {
      try (JsonParser parser = JSON.createParser(value)) {
        parser.nextToken();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
          String name = parser.currentName();
          parser.nextToken();
          for (int at = 0; at < FEATURES.length; at++) {
            if (FEATURES[at].equals(name)) {
              x.putFloat(4 * at, parser.getFloatValue());
            }
          }
        }
      }
    }

    private byte[] answer(Record<byte[], byte[]> record, int steps, float probability) throws Exception {
      text.reset();
      try (JsonGenerator out = JSON.createGenerator(text)) {
        out.writeStartObject();
        out.writeStringField("stream", new String(record.key(), java.nio.charset.StandardCharsets.UTF_8));
        out.writeNullField("sequence");
        out.writeNumberField("step", steps);
        out.writeArrayFieldStart("probabilities");
        out.writeNumber(probability);
        out.writeEndArray();
        out.writeBooleanField("final", false);
        out.writeNullField("reset");
        out.writeNumberField("time", record.timestamp());
        out.writeStringField("origin", "live");
        out.writeStringField("model", "4f1c9a2b7d10");
        out.writeObjectFieldStart("source");
        var place = context().recordMetadata().orElseThrow();
        out.writeStringField("topic", place.topic());
        out.writeNumberField("partition", place.partition());
        out.writeNumberField("offset", place.offset());
        out.writeEndObject();
        out.writeEndObject();
      }
      return text.toByteArray();
    }
  }
}
